//! What a client with a dedicated upstream connection is answered.

use bytes::{BufMut, BytesMut};

use crate::command::Request;
use crate::dispatch::Flow;
use crate::resp::{Proto, encode};
use crate::route::{Local, Pin, Route, Unknown};
use crate::session::Session;

/// Redis's words for a monitor that would touch keys.
const NO_KEYS: &str = "ERR Replica can't interact with the keyspace";
const RAW: &str =
    "ERR hearthside: this command is not supported on a connection that monitors or debugs scripts; RESET it first";

/// The route of a request of such a client.
pub(crate) fn route(session: &mut Session, request: &Request<'_>, route: Route) -> Route {
    if let Route::Pinned(Pin::Blocking, _) | Route::Unknown(Unknown::Command) = route {
        session.way.note_wait(request);
    }
    match route {
        // No state takes a refusal back.
        Route::Refused(_) | Route::Local(Local::Quit | Local::Reset, _) => route,
        _ if session.way.state().is_raw() => raw(session, route),
        Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), _) => route,
        // Who is subscribed over the shared connection is no subscriber on this one.
        _ if session.is_resp2_subscriber() && session.subscriber().is_some() => route,
        // What CLIENT CACHING says is about the next command that the upstream sees.
        Route::Local(Local::Ping | Local::Echo, _) => Route::PassThrough(true),
        _ if session.is_resp2_subscriber() => Route::PassThrough(false),
        Route::Pinned(Pin::Blocking | Pin::Wait, _) => {
            session.way.may_wait_now();
            Route::PassThrough(false)
        }
        Route::Unknown(Unknown::Command) => {
            session.way.asks_unknown(session.now);
            Route::PassThrough(false)
        }
        _ => route,
    }
}

/// The route where replies cannot be told from what else comes. The upstream itself says what a monitor may do, but
/// for what it cannot judge: owned keys, our clients, our users.
fn raw(session: &Session, route: Route) -> Route {
    match route {
        Route::Owned(..) | Route::Split(..) if session.way.state().monitor => Route::Refused(NO_KEYS.into()),
        Route::Owned(..) | Route::Split(..) | Route::Hearthside => route,
        Route::Local(Local::ClientList | Local::ClientKill, _) => route,
        Route::Local(Local::ClientUnblock, _) => Route::Refused(RAW.into()),
        // The upstream knows the credentials of upstream.url; ours are not for it.
        Route::Local(Local::Auth | Local::Hello, _) if session.user.is_some() => Route::Refused(RAW.into()),
        _ => Route::Unanswered,
    }
}

/// Why a tracking client cannot read an owned key, if it cannot.
pub(crate) fn untrackable(session: &Session) -> Option<&'static str> {
    let state = session.way.state();
    (state.tracking && (state.redirect.is_some() || session.proto() == Proto::Resp2)).then_some(
        "ERR hearthside: owned keys cannot be read with CLIENT TRACKING and REDIRECT: their invalidations do not pass \
         the upstream; use RESP3 without REDIRECT",
    )
}

/// A tracking client is told at once to forget the owned keys it read: the sidecar does not remember who has read what.
pub(crate) fn forget(keys: &[&[u8]], flow: Flow, out: &mut BytesMut) -> Flow {
    let mut push = BytesMut::new();
    push.put_slice(b">2\r\n$10\r\ninvalidate\r\n");
    encode::request(&mut push, keys);
    match flow {
        Flow::Answered => {
            out.put_slice(&push);
            Flow::Answered
        }
        Flow::Later(reply) => Flow::Later(Box::pin(async move {
            let mut all = reply.await?;
            all.take(&mut push);
            Ok(all)
        })),
        // Neither reads an owned key.
        Flow::Upstream(ticket) => Flow::Upstream(ticket),
        Flow::Exclusive(exclusive) => Flow::Exclusive(exclusive),
    }
}
