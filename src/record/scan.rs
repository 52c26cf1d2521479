//! HSCAN, SSCAN and LPOS. A record is given whole in one page, as Redis does for its small encodings.

use bytes::{BufMut, BytesMut};

use super::read::{ReadError, integer, typed};
use super::{Record, Shape, View};
use crate::command::Request;
use crate::errors::as_redis;
use crate::keys::glob_match;
use crate::resp::{Proto, encode};

pub(super) fn hscan(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    page(request, view, Shape::Hash, out)
}

pub(super) fn sscan(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    page(request, view, Shape::Set, out)
}

fn page(request: &Request<'_>, view: &View<'_>, shape: Shape, out: &mut BytesMut) -> Result<(), ReadError> {
    check_cursor(request.arg(2))?;
    let record = typed(view, shape)?;
    let pattern = if record.is_some() { options(request)? } else { None };
    let matches = |name: &[u8]| pattern.is_none_or(|p| glob_match(p, name));
    let found: Vec<usize> =
        (0..record.map_or(0, Record::len)).filter(|i| record.is_some_and(|r| matches(r.name(*i)))).collect();
    encode::array(out, 2);
    encode::bulk(out, b"0");
    encode::array(out, found.len() * record.map_or(1, Record::stride));
    if let Some(record) = record {
        let stride = record.stride();
        for i in found {
            out.put_slice(record.encoded(i * stride, (i + 1) * stride));
        }
    }
    Ok(())
}

/// A cursor as `strtoul` reads it: digits, perhaps signed; an empty one is 0.
fn check_cursor(cursor: &[u8]) -> Result<(), ReadError> {
    let digits = cursor.strip_prefix(b"-").or_else(|| cursor.strip_prefix(b"+")).unwrap_or(cursor);
    let number =
        digits.iter().all(u8::is_ascii_digit) && digits.len() <= 20 && (!digits.is_empty() || cursor.is_empty());
    if number { Ok(()) } else { Err(ReadError::Cursor) }
}

/// Checks the options and gives MATCH's pattern.
fn options<'a>(request: &Request<'a>) -> Result<Option<&'a [u8]>, ReadError> {
    let (mut pattern, mut at) = (None, 3);
    while at < request.len() {
        if at + 1 >= request.len() {
            return Err(ReadError::Syntax);
        }
        if request.is(at, "COUNT") {
            if integer(request.arg(at + 1))? < 1 {
                return Err(ReadError::Syntax);
            }
        } else if request.is(at, "MATCH") {
            pattern = Some(request.arg(at + 1));
        } else {
            return Err(ReadError::Syntax);
        }
        at += 2;
    }
    Ok(pattern)
}

struct Position {
    rank: i64,
    count: Option<usize>,
    max_compared: usize,
}

pub(super) fn lpos(request: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let wanted = position_options(request)?;
    let list = typed(view, Shape::List)?;
    let found = list.map_or_else(Vec::new, |list| positions(list, request.arg(2), &wanted));
    match (wanted.count, found.first()) {
        (Some(_), _) => {
            encode::array(out, found.len());
            found.iter().for_each(|i| encode::int(out, *i as i64));
        }
        (None, Some(first)) => encode::int(out, *first as i64),
        (None, None) => encode::null(out, proto),
    }
    Ok(())
}

fn positions(list: &Record, element: &[u8], wanted: &Position) -> Vec<usize> {
    let length = list.len();
    let compared = if wanted.max_compared == 0 { length } else { wanted.max_compared.min(length) };
    let places = (0..compared).map(|i| if wanted.rank < 0 { length - 1 - i } else { i });
    let most = wanted.count.map_or(1, |n| if n == 0 { usize::MAX } else { n });
    places.filter(|i| list.name(*i) == element).skip(wanted.rank.unsigned_abs() as usize - 1).take(most).collect()
}

fn position_options(request: &Request<'_>) -> Result<Position, ReadError> {
    let mut wanted = Position { rank: 1, count: None, max_compared: 0 };
    let mut at = 3;
    while at < request.len() {
        let value = request.arg(at + 1);
        if at + 1 >= request.len() {
            return Err(ReadError::Syntax);
        }
        if request.is(at, "RANK") {
            wanted.rank = rank(value)?;
        } else if request.is(at, "COUNT") {
            wanted.count = Some(not_negative(value, as_redis::NEGATIVE_COUNT)?);
        } else if request.is(at, "MAXLEN") {
            wanted.max_compared = not_negative(value, as_redis::NEGATIVE_MAXLEN)?;
        } else {
            return Err(ReadError::Syntax);
        }
        at += 2;
    }
    Ok(wanted)
}

fn rank(text: &[u8]) -> Result<i64, ReadError> {
    match integer(text)? {
        // Redis negates it, which overflows, and then takes the first match from the end.
        i64::MIN => Ok(-1),
        0 => Err(ReadError::Other(as_redis::ZERO_RANK)),
        rank => Ok(rank),
    }
}

fn not_negative(text: &[u8], message: &'static str) -> Result<usize, ReadError> {
    integer(text).ok().and_then(|n| usize::try_from(n).ok()).ok_or(ReadError::Other(message))
}
