//! CLIENT and its subcommands: what the sidecar knows of its clients, and what it does to them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::clients::{ClientType, Filter, Peer};
use crate::command::{Request, name_of};
use crate::dispatch::{Flow, Services};
use crate::errors::as_redis;
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::session::{ReplyMode, Session};
use crate::upstream::Batch;

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

/// A name as Redis accepts it: printable, without spaces.
pub(super) fn checked_name(name: &[u8]) -> Result<Bytes, String> {
    if is_printable(name) { Ok(Bytes::copy_from_slice(name)) } else { Err(as_redis::CLIENT_NAME.into()) }
}

pub(crate) fn set_name(session: &Session, request: &Request<'_>, out: &mut BytesMut) {
    match checked_name(request.arg(2)) {
        Ok(name) => {
            session.peer.update(|state| state.name = name);
            encode::simple(out, "OK");
        }
        Err(text) => encode::error(out, &text),
    }
}

pub(crate) fn get_name(session: &Session, out: &mut BytesMut) {
    let name = session.peer.read(|state| state.name.clone());
    if name.is_empty() { encode::null(out, session.proto()) } else { encode::bulk(out, &name) }
}

pub(crate) fn set_info(session: &Session, request: &Request<'_>, out: &mut BytesMut) {
    let (option, value) = (request.arg(2), request.arg(3));
    let is_name = request.is(2, "LIB-NAME");
    if !is_name && !request.is(2, "LIB-VER") {
        return encode::error(out, &as_redis::client_property(option));
    }
    if !is_printable(value) {
        let option = String::from_utf8_lossy(option).to_lowercase();
        return encode::error(out, &as_redis::client_property_value(&option));
    }
    let value = Bytes::copy_from_slice(value);
    session.peer.update(|state| if is_name { state.lib_name = value } else { state.lib_ver = value });
    encode::simple(out, "OK");
}

fn line(peer: &Peer) -> String {
    peer.line(name_of)
}

pub(crate) fn info(session: &Session, out: &mut BytesMut) {
    session.peer.saw(session.now, session.command);
    encode::verbatim(out, session.proto(), line(&session.peer).as_bytes());
}

/// The clients of this sidecar, not those of the upstream.
pub(crate) fn list(services: &Services, session: &Session, request: &Request<'_>, out: &mut BytesMut) {
    session.peer.saw(session.now, session.command);
    match listed(services, request) {
        Ok(peers) => {
            let text: String = peers.iter().map(|peer| line(peer)).collect();
            encode::verbatim(out, session.proto(), text.as_bytes());
        }
        Err(text) => encode::error(out, &text),
    }
}

fn listed(services: &Services, request: &Request<'_>) -> Result<Vec<Arc<Peer>>, String> {
    if request.len() == 2 {
        return Ok(services.clients.matching(|_| true));
    }
    if request.is(2, "TYPE") && request.len() == 4 {
        let kind = ClientType::read(request.arg(3))?;
        return Ok(services.clients.matching(|peer| kind.matches(peer)));
    }
    if !request.is(2, "ID") || request.len() == 3 {
        return Err(as_redis::SYNTAX.into());
    }
    let ids = request.args_from(3).map(|id| parse_i64(id).filter(|id| *id > 0).ok_or(as_redis::CLIENT_ID));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.into_iter().filter_map(|id| services.clients.find(id as u64)).collect())
}

pub(crate) fn kill(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
    if request.len() == 3 {
        let address = String::from_utf8_lossy(request.arg(2));
        let found = services.clients.matching(|peer| peer.addresses.0 == address);
        match found.first() {
            None => encode::error(out, as_redis::NO_CLIENT),
            Some(peer) => {
                end(session, peer);
                encode::simple(out, "OK");
            }
        }
        return;
    }
    let words: Vec<_> = request.args_from(2).collect();
    match Filter::read(&words, session.peer.id, &|user| services.access.is_user(user)) {
        Err(text) => encode::error(out, &text),
        Ok(filter) => {
            let found = services.clients.matching(|peer| filter.matches(peer));
            found.iter().for_each(|peer| end(session, peer));
            encode::int(out, found.len() as i64);
        }
    }
}

/// One that ends itself still gets its reply.
fn end(session: &mut Session, peer: &Arc<Peer>) {
    if peer.id == session.peer.id {
        session.closing = true;
    } else {
        peer.kill();
    }
}

/// The upstream knows whether the client's own connection waits there.
pub(crate) fn unblock(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let reason = if request.is(3, "ERROR") { "ERROR" } else { "TIMEOUT" };
    if request.len() > 4 || request.len() == 4 && !request.is(3, reason) {
        encode::error(out, as_redis::UNBLOCK_REASON);
        return Flow::Answered;
    }
    let Some(id) = parse_i64(request.arg(2)) else {
        encode::error(out, as_redis::NOT_INTEGER);
        return Flow::Answered;
    };
    let peer = u64::try_from(id).ok().and_then(|id| services.clients.find(id));
    let Some(connection) = peer.and_then(|peer| peer.read(|state| state.connection)) else {
        encode::int(out, 0);
        return Flow::Answered;
    };
    let mut bytes = BytesMut::new();
    encode::request(&mut bytes, &["CLIENT", "UNBLOCK", &connection.to_string(), reason]);
    Flow::Upstream(services.lane(session).submit(Batch::one(bytes.freeze(), false)))
}

/// Only ON has a reply; an error has one unless replies are off.
pub(crate) fn reply(session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
    let before = session.reply;
    match () {
        () if request.is(2, "ON") => {
            session.reply = ReplyMode::On;
            encode::simple(out, "OK");
        }
        () if request.is(2, "OFF") => session.reply = ReplyMode::Off,
        () if request.is(2, "SKIP") && before == ReplyMode::Off => {}
        () if request.is(2, "SKIP") => session.reply = ReplyMode::Skip,
        () if before == ReplyMode::Off => {}
        () => encode::error(out, as_redis::SYNTAX),
    }
}
