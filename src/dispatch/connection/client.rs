//! CLIENT and its subcommands: what the sidecar knows of its clients, and what it does to them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::clients::{Asker, Filter, Generation, Listing, Peer};
use crate::command::{Request, name_of};
use crate::dispatch::{Flow, Services};
use crate::errors::as_redis;
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::session::{ReplyMode, Session};
use crate::upstream::{Batch, Ticket};

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
            session.take_name(name);
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

/// Notes the request that is answered, as the line of its client shows it.
fn note_asking(session: &Session, request: &Request<'_>) {
    session.peer.saw(session.now, session.command);
    let arguments = request.args_from(0).map(<[u8]>::len).sum();
    session.peer.traffic.asks(request.raw().len(), arguments, session.tally.total.saturating_sub(1));
}

fn generation(services: &Services) -> Generation {
    let identity = services.upstream.endpoint().version.get();
    Generation::of(&identity.server, &identity.version)
}

pub(crate) fn info(services: &Services, session: &Session, request: &Request<'_>, out: &mut BytesMut) {
    note_asking(session, request);
    encode::verbatim(out, session.proto(), session.peer.line(generation(services), name_of).as_bytes());
}

/// The id of no client: with it the upstream is asked only whether there is such a user.
const NOBODY: &[u8] = b"9223372036854775807";

/// The upstream's answer to the same question about nobody, where a filter names a user that only it may know: that
/// there is none, or that none of its clients is meant.
fn unsure(services: &Services, session: &mut Session, request: &Request<'_>, filter: &Filter) -> Option<Flow> {
    let user = filter.unsure()?;
    if !services.clients.matching(|peer| peer.read(|state| state.user == user)).is_empty() {
        return None;
    }
    let words = [request.arg(0), request.arg(1), b"USER", user.as_bytes(), b"ID", NOBODY];
    Some(Flow::Upstream(services.ask(session, &words, true)))
}

/// The clients of this sidecar, not those of the upstream.
pub(crate) fn list(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    note_asking(session, request);
    let words: Vec<_> = request.args_from(2).collect();
    let generation = generation(services);
    let asker = Asker { id: session.peer.id, generation, is_user: &|user| services.access.is_user(user) };
    let peers = match Listing::read(&words, &asker) {
        Err(text) => {
            encode::error(out, &text);
            return Flow::Answered;
        }
        Ok(Listing::Ids(ids)) => {
            let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
            ids.filter_map(|id| services.clients.find(id)).filter(|peer| !peer.is_killed()).collect()
        }
        Ok(Listing::Matching(filter)) => {
            if let Some(asked) = unsure(services, session, request, &filter) {
                return asked;
            }
            services.clients.matching(|peer| filter.matches(peer))
        }
    };
    let text: String = peers.iter().map(|peer| peer.line(generation, name_of)).collect();
    encode::verbatim(out, session.proto(), text.as_bytes());
    Flow::Answered
}

pub(crate) fn kill(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let words: Vec<_> = request.args_from(2).collect();
    let generation = generation(services);
    let asker = Asker { id: session.peer.id, generation, is_user: &|user| services.access.is_user(user) };
    let filter = match Filter::of_kill(&words, &asker) {
        Ok(filter) => filter,
        Err(text) => {
            encode::error(out, &text);
            return Flow::Answered;
        }
    };
    if let Some(asked) = unsure(services, session, request, &filter) {
        return asked;
    }
    let found = services.clients.matching(|peer| filter.matches(peer));
    found.iter().for_each(|peer| end(session, peer));
    match words.len() {
        1 if found.is_empty() => encode::error(out, as_redis::NO_CLIENT),
        1 => encode::simple(out, "OK"),
        _ => encode::int(out, found.len() as i64),
    }
    Flow::Answered
}

/// What a client says that it can do: only `redirect` has a letter.
pub(crate) fn capa(session: &Session, request: &Request<'_>, out: &mut BytesMut) {
    if (2..request.len()).any(|i| request.is(i, "REDIRECT")) {
        session.peer.update(|state| state.redirects = true);
    }
    encode::simple(out, "OK");
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
    let connection = peer.and_then(|peer| peer.read(|state| Some((state.connection?, state.node.clone()))));
    let ended = connection.and_then(|(id, node)| end_wait(services, session, id, node.as_deref(), reason));
    let Some(ended) = ended else {
        encode::int(out, 0);
        return Flow::Answered;
    };
    Flow::Upstream(ended)
}

/// Asks the server of a connection, which is this node of a cluster if it is one, to end what waits on the connection;
/// `None` when there is no such node any more.
pub(crate) fn end_wait(
    services: &Services,
    session: &mut Session,
    connection: i64,
    node: Option<&str>,
    reason: &str,
) -> Option<Ticket> {
    let request = encode::request_of(&["CLIENT", "UNBLOCK", &connection.to_string(), reason]);
    let batch = Batch::one(request, false);
    if node.is_none() {
        return Some(services.lane(session).submit(batch));
    }
    let lane = services.upstream.lane_to(node, &session.group, session.peer.id, &session.account)?;
    Some(lane.submit(batch))
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
