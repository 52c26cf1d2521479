//! HRANDFIELD and SRANDMEMBER (`hrandfieldWithCountCommand`, `srandmemberWithCountCommand`).

use bytes::{BufMut, BytesMut};

use super::read::{ReadError, integer, typed};
use super::{Record, Shape, View};
use crate::command::Request;
use crate::resp::{Proto, encode};

pub(super) fn hrandfield(
    request: &Request<'_>,
    view: &View<'_>,
    proto: Proto,
    out: &mut BytesMut,
) -> Result<(), ReadError> {
    if request.len() < 3 {
        one(typed(view, Shape::Hash)?, proto, out);
        return Ok(());
    }
    let count = count(request.arg(2))?;
    let values = request.len() == 4 && request.is(3, "WITHVALUES");
    if request.len() > 3 && !values {
        return Err(ReadError::Syntax);
    }
    if values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(ReadError::OutOfRange);
    }
    let Some(hash) = typed(view, Shape::Hash)? else {
        encode::array(out, 0);
        return Ok(());
    };
    let chosen = choose(hash.len(), count);
    encode::array(out, chosen.len() * if values && proto == Proto::Resp2 { 2 } else { 1 });
    for i in chosen {
        if values && proto == Proto::Resp3 {
            encode::array(out, 2);
        }
        out.put_slice(hash.encoded(i * 2, i * 2 + if values { 2 } else { 1 }));
    }
    Ok(())
}

pub(super) fn srandmember(
    request: &Request<'_>,
    view: &View<'_>,
    proto: Proto,
    out: &mut BytesMut,
) -> Result<(), ReadError> {
    match request.len() {
        2 => one(typed(view, Shape::Set)?, proto, out),
        3 => {
            let count = count(request.arg(2))?;
            let set = typed(view, Shape::Set)?;
            let chosen = choose(set.map_or(0, Record::len), count);
            encode::array(out, chosen.len());
            for i in chosen {
                out.put_slice(set.map_or(&[], |s| s.encoded(i, i + 1)));
            }
        }
        _ => return Err(ReadError::Syntax),
    }
    Ok(())
}

fn one(record: Option<&Record>, proto: Proto, out: &mut BytesMut) {
    match record.filter(|r| !r.is_empty()) {
        Some(record) => encode::bulk(out, record.name(fastrand::usize(..record.len()))),
        None => encode::null(out, proto),
    }
}

fn count(text: &[u8]) -> Result<i64, ReadError> {
    match integer(text)? {
        i64::MIN => Err(ReadError::OutsideLong),
        count => Ok(count),
    }
}

/// Most places that a negative count may ask for: a reply past it would only exhaust memory.
const MAX_REPEATS: i64 = 1 << 24;

/// Places out of `size`: a positive count gives different ones, a negative one may repeat them.
fn choose(size: usize, count: i64) -> Vec<usize> {
    if size == 0 {
        return Vec::new();
    }
    if count < 0 {
        return (0..count.saturating_neg().min(MAX_REPEATS)).map(|_| fastrand::usize(..size)).collect();
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count >= size {
        return (0..size).collect();
    }
    fastrand::choose_multiple(0..size, count)
}
