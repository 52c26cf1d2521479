//! PING, QUIT, SELECT and ACL WHOAMI.

use bytes::{Bytes, BytesMut};

use crate::command::{Request, Spec};
use crate::dispatch::{Exclusive, Flow, Move, Services, wrong_arity};
use crate::errors::as_redis;
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::session::Session;
use crate::upstream::Group;

/// The table accepts any number of arguments; the command itself takes one.
pub(crate) fn ping(session: &Session, request: &Request<'_>, spec: &Spec, out: &mut BytesMut) {
    match request.len() {
        1 | 2 if session.is_resp2_subscriber() => {
            encode::array(out, 2);
            encode::bulk(out, b"pong");
            encode::bulk(out, request.arg(1));
        }
        1 => encode::simple(out, "PONG"),
        2 => encode::bulk(out, request.arg(1)),
        _ => wrong_arity(spec, out),
    }
}

/// The same when the upstream has answered, which does not know that the client subscribes; an error is the client's.
pub(crate) fn ping_upstream(services: &Services, session: &mut Session, request: &Request<'_>, spec: &Spec) -> Flow {
    let mut pong = BytesMut::new();
    ping(session, request, spec, &mut pong);
    let asked = services.ask(session, &[b"PING"], true);
    Flow::Later(Box::pin(async move {
        let reply = asked.whole().await?;
        Ok(if reply.starts_with(b"-") { reply.into() } else { pong.into() })
    }))
}

pub(crate) fn quit(session: &mut Session, out: &mut BytesMut) {
    session.closing = true;
    encode::simple(out, "OK");
}

/// Another database must first be proven to exist: its lanes are another group (hazard 22).
pub(crate) fn select(session: &Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    match parse_i64(request.arg(1)).filter(|db| i32::try_from(*db).is_ok()) {
        Some(db) if db == session.group.db => encode::simple(out, "OK"),
        Some(db) if db >= 0 => {
            let group = Group { db, ..session.group.clone() };
            let reply = Bytes::from_static(b"+OK\r\n");
            return Flow::Exclusive(Exclusive::Move(Move { group, name: None, reply, is_judged: false }));
        }
        Some(_) => encode::error(out, as_redis::DB_INDEX),
        None => encode::error(out, as_redis::NOT_INTEGER),
    }
    Flow::Answered
}

/// As whom the client is here: the upstream knows only the service.
pub(crate) fn whoami(session: &Session, out: &mut BytesMut) {
    encode::bulk(out, session.peer.read(|state| state.user.clone()).as_bytes());
}
