//! Read commands on one record, answered as Redis answers them for the same value: the order of the checks,
//! the error texts and the forms of both protocols are those of Redis 7.0 (`t_hash.c`, `t_list.c`,
//! `t_string.c`, `t_set.c`). Which command is answered by which function stands in `verbs.rs`.

use bytes::{BufMut, BytesMut};

use super::{Record, Shape, View};
use crate::command::Request;
use crate::errors::as_redis;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};

/// Why a read command has no value to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The key holds another shape.
    #[error("{}", as_redis::WRONG_TYPE)]
    WrongType,
    /// An argument is no 64-bit integer.
    #[error("{}", as_redis::NOT_INTEGER)]
    NotInteger,
    /// An integer is outside what the command takes.
    #[error("{}", as_redis::OUTSIDE_LONG)]
    OutsideLong,
    /// A count that cannot be doubled.
    #[error("{}", as_redis::OUT_OF_RANGE)]
    OutOfRange,
    /// An unknown or incomplete option.
    #[error("{}", as_redis::SYNTAX)]
    Syntax,
    /// A cursor that is no number.
    #[error("{}", as_redis::CURSOR)]
    Cursor,
    /// An expiry that is not positive, or too far away.
    #[error("{}", as_redis::expire_time(.0))]
    ExpireTime(&'static str),
    /// Arguments that do not come in pairs.
    #[error("{}", as_redis::wrong_arity(.0))]
    Arity(&'static str),
    /// An unknown option.
    #[error("{}", as_redis::unsupported_option(.0))]
    Option(String),
    /// Another text of Redis's.
    #[error("{0}")]
    Other(&'static str),
}

/// Answers one read command from one key's view.
pub type Answer = fn(&Request<'_>, &View<'_>, Proto, &mut BytesMut) -> Result<(), ReadError>;

/// The record if there is one of the right shape.
pub(super) fn typed<'r>(view: &View<'r>, shape: Shape) -> Result<Option<&'r Record>, ReadError> {
    match view.record {
        Some(record) if record.shape() != shape => Err(ReadError::WrongType),
        other => Ok(other),
    }
}

pub(super) fn integer(text: &[u8]) -> Result<i64, ReadError> {
    parse_i64(text).ok_or(ReadError::NotInteger)
}

/// A start or end position: negative ones count from the end.
pub(super) const fn from_end(position: i64, length: i64) -> i64 {
    if position < 0 { position.saturating_add(length) } else { position }
}

fn length(view: &View<'_>, shape: Shape, out: &mut BytesMut) -> Result<(), ReadError> {
    encode::int(out, typed(view, shape)?.map_or(0, |record| record.len() as i64));
    Ok(())
}

pub(super) fn hlen(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    length(view, Shape::Hash, out)
}

pub(super) fn llen(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    length(view, Shape::List, out)
}

pub(super) fn scard(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    length(view, Shape::Set, out)
}

fn bulk_or_null(encoded: Option<&[u8]>, proto: Proto, out: &mut BytesMut) {
    match encoded {
        Some(bytes) => out.put_slice(bytes),
        None => encode::null(out, proto),
    }
}

pub(super) fn hget(request: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let hash = typed(view, Shape::Hash)?;
    bulk_or_null(hash.and_then(|h| h.field(request.arg(2))), proto, out);
    Ok(())
}

pub(super) fn hmget(request: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let hash = typed(view, Shape::Hash)?;
    encode::array(out, request.len() - 2);
    for field in request.args_from(2) {
        bulk_or_null(hash.and_then(|h| h.field(field)), proto, out);
    }
    Ok(())
}

pub(super) fn hexists(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let found = typed(view, Shape::Hash)?.is_some_and(|h| h.find(request.arg(2)).is_some());
    encode::int(out, i64::from(found));
    Ok(())
}

pub(super) fn hstrlen(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let value = typed(view, Shape::Hash)?.and_then(|h| h.find(request.arg(2)).map(|i| h.text(i * 2 + 1)));
    encode::int(out, value.map_or(0, |v| v.len() as i64));
    Ok(())
}

pub(super) fn lrange(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let (start, end) = (integer(request.arg(2))?, integer(request.arg(3))?);
    let list = typed(view, Shape::List)?;
    let length = list.map_or(0, |l| l.len() as i64);
    let (start, end) = (from_end(start, length).max(0), from_end(end, length).min(length - 1));
    match list {
        Some(list) if start <= end => {
            encode::array(out, (end - start + 1) as usize);
            out.put_slice(list.encoded(start as usize, end as usize + 1));
        }
        _ => encode::array(out, 0),
    }
    Ok(())
}

pub(super) fn lindex(
    request: &Request<'_>,
    view: &View<'_>,
    proto: Proto,
    out: &mut BytesMut,
) -> Result<(), ReadError> {
    let Some(list) = typed(view, Shape::List)? else {
        encode::null(out, proto);
        return Ok(());
    };
    let index = usize::try_from(from_end(integer(request.arg(2))?, list.len() as i64)).ok();
    let found = index.filter(|i| *i < list.len()).map(|i| list.encoded(i, i + 1));
    bulk_or_null(found, proto, out);
    Ok(())
}

pub(super) fn get(_: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    bulk_or_null(typed(view, Shape::String)?.map(|s| s.body.encoded()), proto, out);
    Ok(())
}

pub(super) fn strlen(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    encode::int(out, typed(view, Shape::String)?.map_or(0, |s| s.value().len() as i64));
    Ok(())
}

pub(super) fn getrange(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let (start, end) = (integer(request.arg(2))?, integer(request.arg(3))?);
    let value = typed(view, Shape::String)?.map_or(&[][..], |s| s.value());
    let length = value.len() as i64;
    let backwards = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start, length).max(0), from_end(end, length).max(0).min(length - 1));
    let range = if backwards || start > end { &[] } else { &value[start as usize..=end as usize] };
    encode::bulk(out, range);
    Ok(())
}

pub(super) fn sismember(request: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let set = typed(view, Shape::Set)?;
    encode::int(out, i64::from(set.is_some_and(|s| s.find(request.arg(2)).is_some())));
    Ok(())
}

pub(super) fn smismember(
    request: &Request<'_>,
    view: &View<'_>,
    _: Proto,
    out: &mut BytesMut,
) -> Result<(), ReadError> {
    let set = typed(view, Shape::Set)?;
    encode::array(out, request.len() - 2);
    for member in request.args_from(2) {
        encode::int(out, i64::from(set.is_some_and(|s| s.find(member).is_some())));
    }
    Ok(())
}
