//! PING, QUIT, RESET and SELECT.

use bytes::BytesMut;

use super::{Alone, Flow, Session, wrong_arity};
use crate::command::{Request, Spec};
use crate::resp::encode;
use crate::resp::number::parse_i64;

/// The table accepts any number of arguments; the command itself takes one.
pub(super) fn ping(request: &Request<'_>, spec: &Spec, out: &mut BytesMut) {
    match request.len() {
        1 => encode::simple(out, "PONG"),
        2 => encode::bulk(out, request.arg(1)),
        _ => wrong_arity(spec, out),
    }
}

pub(super) fn quit(session: &mut Session, out: &mut BytesMut) {
    session.closing = true;
    encode::simple(out, "OK");
}

pub(super) fn reset(session: &mut Session, out: &mut BytesMut) {
    session.reset();
    encode::simple(out, "RESET");
}

/// Another database must first be proven to exist: its lanes are another group (hazard 22).
pub(super) fn select(session: &Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    match parse_i64(request.arg(1)).filter(|db| i32::try_from(*db).is_ok()) {
        Some(db) if db == session.group.db => encode::simple(out, "OK"),
        Some(db) if db >= 0 => return Flow::Alone(Alone::Select(db)),
        Some(_) => encode::error(out, "ERR DB index is out of range"),
        None => encode::error(out, "ERR value is not an integer or out of range"),
    }
    Flow::Answered
}
