//! Commands that return a whole hash or set: HGETALL, HKEYS, HVALS, SMEMBERS.

use bytes::{BufMut, BytesMut};

use super::read::{ReadError, typed};
use super::{Record, Shape, View};
use crate::command::Request;
use crate::resp::{Proto, encode};

pub(super) fn hgetall(_: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let hash = typed(view, Shape::Hash)?;
    encode::map(out, proto, hash.map_or(0, Record::len));
    out.put_slice(hash.map_or(&[], |h| h.body.encoded()));
    Ok(())
}

pub(super) fn hkeys(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    every_other(typed(view, Shape::Hash)?, 0, out);
    Ok(())
}

pub(super) fn hvals(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    every_other(typed(view, Shape::Hash)?, 1, out);
    Ok(())
}

fn every_other(hash: Option<&Record>, offset: usize, out: &mut BytesMut) {
    encode::array(out, hash.map_or(0, Record::len));
    let Some(hash) = hash else { return };
    for i in 0..hash.len() {
        out.put_slice(hash.encoded(i * 2 + offset, i * 2 + offset + 1));
    }
}

pub(super) fn smembers(_: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    let set = typed(view, Shape::Set)?;
    encode::set(out, proto, set.map_or(0, Record::len));
    out.put_slice(set.map_or(&[], |s| s.body.encoded()));
    Ok(())
}
