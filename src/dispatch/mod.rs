//! Answers a routed request. The one place that knows definitions, cache and upstream, and the only one where an
//! error becomes `-ERR`. It sees a request, a session and a buffer for the reply; never a socket.

mod client;
mod hearthside;
mod hello;
mod info;
mod local;
pub mod owned;
mod session;
mod split;

use std::pin::Pin as Pinning;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

pub use owned::Owned;
pub use session::Session;

use crate::command::{OwnedRequest, Request, Spec};
use crate::resp::encode;
use crate::route::{Local, Pin, Route, Router, Transaction};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Broken, Lane, Upstream, Version};

/// What one worker thread answers with.
#[derive(Debug)]
pub struct Context {
    /// Decides where requests go.
    pub router: Arc<Router>,
    /// Definitions and cache.
    pub owned: Arc<Owned>,
    /// The way to the upstream.
    pub upstream: Upstream,
    /// The upstream's version.
    pub version: Version,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// A reply that comes later. Its work has begun; polling it only waits.
pub type LaterReply = Pinning<Box<dyn Future<Output = Result<Bytes, Broken>>>>;

/// Work that needs the whole client: nothing else of it may be under way.
#[derive(Debug)]
pub enum Alone {
    /// Change the database.
    Select(i64),
    /// A transaction's command, or any command inside one.
    Transaction(OwnedRequest),
    /// One request over a pinned connection.
    Pinned(Pin, OwnedRequest),
}

/// How a request is answered.
pub enum Flow {
    /// The reply is in the buffer.
    Answered,
    /// The reply comes later, in its place.
    Later(LaterReply),
    /// When everything before it has been answered.
    Alone(Alone),
}

impl Context {
    /// The lane of a client, the same one until its protocol or database changes.
    pub fn lane(&self, session: &mut Session) -> Lane {
        session.lane.get_or_insert_with(|| self.upstream.lane(session.group, session.id)).clone()
    }

    /// Answers `request`, which goes `route`; pass-through runs are the caller's, who gathers them.
    pub fn answer(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        match route {
            Route::Local(local, spec) => self.local(session, request, local, spec, out),
            Route::Hearthside => self.hearthside(session, request, out),
            Route::Owned(mapping, at, spec) => owned::answer(self, session, request, (mapping, at, spec), out),
            Route::Split(keys, spec) => split::answer(self, session, request, &keys, spec, out),
            Route::Transaction(command, spec) => transaction(session, request, command, spec, out),
            Route::Pinned(pin) => {
                session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
                Flow::Alone(Alone::Pinned(pin, OwnedRequest::copy(request)))
            }
            Route::PassThrough(resendable) => self.forward(session, request, resendable),
            Route::Refused(text) => refuse(session, &text, out),
        }
    }

    /// Forwards one request alone.
    fn forward(&self, session: &mut Session, request: &Request<'_>, resendable: bool) -> Flow {
        session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        let run = crate::upstream::Run::one(Bytes::copy_from_slice(request.raw()), resendable);
        let ticket = self.lane(session).submit(run);
        Flow::Later(Box::pin(ticket.whole()))
    }

    fn local(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        local: Local,
        spec: &Spec,
        out: &mut BytesMut,
    ) -> Flow {
        session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        if !spec.accepts(request.len()) {
            wrong_arity(spec, out);
            return Flow::Answered;
        }
        match local {
            Local::Ping => local::ping(request, spec, out),
            Local::Echo => encode::bulk(out, request.arg(1)),
            Local::Quit => local::quit(session, out),
            Local::Reset => local::reset(session, out),
            Local::Hello => hello::hello(self, session, request, out),
            Local::Auth => hello::auth(request, out),
            Local::Select => return local::select(session, request, out),
            Local::ClientSetName => client::set_name(session, request, out),
            Local::ClientGetName => client::get_name(session, out),
            Local::ClientId => encode::int(out, session.id as i64),
            Local::ClientInfo => client::info(session, out),
            Local::ClientSetInfo => client::set_info(session, request, out),
            Local::Info => return info::answer(self, session, request, out),
        }
        Flow::Answered
    }

    fn hearthside(&self, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
        session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        hearthside::answer(&self.owned, request, out)
    }
}

/// EXEC and its kin outside a transaction are errors that need no connection; MULTI and WATCH begin one.
fn transaction(
    session: &mut Session,
    request: &Request<'_>,
    command: Transaction,
    spec: &Spec,
    out: &mut BytesMut,
) -> Flow {
    session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
    if !spec.accepts(request.len()) {
        if command == Transaction::Exec {
            wrong_exec(out)
        } else {
            wrong_arity(spec, out)
        }
        return Flow::Answered;
    }
    match command {
        Transaction::Multi | Transaction::Watch => return Flow::Alone(Alone::Transaction(OwnedRequest::copy(request))),
        Transaction::Exec => encode::error(out, "ERR EXEC without MULTI"),
        Transaction::Discard => encode::error(out, "ERR DISCARD without MULTI"),
        Transaction::Unwatch => encode::simple(out, "OK"),
    }
    Flow::Answered
}

/// Redis's words for a wrong number of arguments.
pub fn wrong_arity(spec: &Spec, out: &mut BytesMut) {
    encode::error(out, &spec.arity_error());
}

/// Redis's words for EXEC with arguments, which ends a transaction.
pub fn wrong_exec(out: &mut BytesMut) {
    encode::error(out, "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command");
}

fn refuse(session: &mut Session, text: &str, out: &mut BytesMut) -> Flow {
    session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
    encode::error(out, text);
    Flow::Answered
}
