//! Answers a routed request. This is the one place that knows definitions, cache and upstream, and the only one where
//! an error becomes `-ERR`. It sees a request, a session and a buffer for the reply; never a socket.

mod audit;
mod call;
mod connection;
mod destination;
mod fallback;
mod hearthside;
mod info;
mod info_clients;
mod info_nodes;
pub mod listing;
mod modes;
mod monitored;
mod near;
mod newest;
mod ordinary;
pub mod owned;
mod pace;
mod reading;
mod refusal;
mod reply_room;
mod rights;
mod shadow;
mod spread;
mod subscriptions;
mod timed;
mod traced;
mod tracked;
mod unknown;

use std::cell::RefCell;
use std::pin::Pin as Pinning;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

pub use call::{wrong_arity, wrong_exec};
pub(crate) use connection::client::end_wait;
pub use connection::hello::greeted;
use connection::{dedicated, subscribe};
pub use fallback::Settles;
pub use modes::{By, ModeOrder, ModeOrders, Which, mode_named};
pub use near::Filling;
pub use newest::{EditionPlace, Newest};
pub use owned::Owned;
pub use owned::expire::{Living, answer_lived};
pub use owned::measured::Measured;
pub use owned::mirror::Unbrought;
pub use owned::read::answer_from;
pub use owned::write::{Mismatch, refusal as write_refusal};
pub use spread::joint::{first, join};
pub use timed::{PassedKind, Timed};
pub use traced::{TracedAlone, operation};

use call::Call;

use crate::access::Access;
use crate::cache::{ThreadCache, Together};
use crate::clients::Registry;
use crate::command::{OwnedRequest, Request, Spec};
use crate::errors;
use crate::inspect::{About, Subject};
use crate::near::{Front, Near};
use crate::resp::encode;
use crate::resp::pieces::Pieces;
use crate::route::{Held, Pin, Route, Router, Unknown};
use crate::session::{Policy, Session};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::telemetry::traces::Sampler;
use crate::upstream::{Batch, Broken, Expect, Group, Hub, Lane, Ticket, To, Upstream};

/// What one worker thread answers with.
#[derive(Debug)]
pub struct Services {
    /// Decides where requests go.
    pub router: Arc<Router>,
    /// Definitions and cache.
    pub owned: Arc<Owned>,
    /// Pass-through keys that are kept in memory, if some are.
    pub near: Option<Arc<Near>>,
    /// This thread's hits among them.
    pub near_front: RefCell<Front>,
    /// Users and what they may do.
    pub access: Arc<Access>,
    /// Where and when the configuration was read.
    pub about: Arc<About>,
    /// Where other modes of mappings are asked for.
    pub modes: ModeOrders,
    /// What a client may cost.
    pub policy: Policy,
    /// Its place among those of its worker.
    pub edition: EditionPlace,
    /// The number of the worker thread.
    pub worker: usize,
    /// Every client of the process.
    pub clients: Arc<Registry>,
    /// The way to the upstream.
    pub upstream: Rc<Upstream>,
    /// Everybody's subscriptions, with `pubsub.mode = "shared"`.
    pub hub: Option<Arc<Hub>>,
    /// The metrics of all parts: INFO shows what each has counted.
    pub metrics: Arc<Metrics>,
    /// The requests that this thread takes now.
    pub timed: Timed,
    /// Which commands of this thread are traced by chance.
    pub sampler: Sampler,
    /// This thread's cached hits.
    pub front: RefCell<ThreadCache>,
    /// This thread's commands about expiries that have queued in the cache.
    pub together: Together,
}

/// A reply that comes later. Its work has begun; polling it only waits.
pub type LaterReply = Pinning<Box<dyn Future<Output = Result<Pieces, Broken>>>>;

/// Another group for a client, once the upstream agrees.
#[derive(Debug)]
pub struct Move {
    /// The group.
    pub group: Group,
    /// A name that comes with it.
    pub name: Option<Bytes>,
    /// What the client is answered then.
    pub reply: Bytes,
    /// The client has shown its credentials: the upstream judges them now, even if it has taken the same before.
    pub is_judged: bool,
}

/// Work that needs the whole client: nothing else of it may be under way.
#[derive(Debug)]
pub enum Exclusive {
    /// Ask the upstream whether the client may come in without AUTH, then answer its request.
    Prove(OwnedRequest),
    /// Change protocol, database or login.
    Move(Move),
    /// A long request over a pinned connection.
    Long(OwnedRequest),
    /// Pass on the unfinished request at the front of the buffer as it comes.
    Stream,
    /// Forget everything about the connection.
    Reset,
    /// A transaction's command, or any command inside one, which goes this route.
    Transaction(OwnedRequest, Route),
    /// What is left of a transaction that has ended.
    Ended,
    /// A request to a node of a cluster of which the client needs a connection first.
    Far(OwnedRequest),
    /// A request about which the client has said whether it keeps what it reads.
    Opted(OwnedRequest),
    /// A request that is looked at again when what it waits for has come.
    Held(Held, OwnedRequest),
    /// A request whose keys may still be the upstream's: these are brought over, or settled otherwise, before it is
    /// answered by its route.
    Fallback(OwnedRequest, Box<Route>),
    /// A request over a pinned connection.
    Pinned(Pin, &'static Spec, OwnedRequest),
    /// A request of which the table does not know enough: over the client's own connection, or after the upstream has
    /// been asked about it.
    Unknown(Unknown, OwnedRequest),
}

/// How a request is answered.
pub enum Flow {
    /// The reply is in the buffer.
    Answered,
    /// The reply comes from the upstream, at its position.
    Upstream(Ticket),
    /// The same, and the reply is kept in memory when it has come.
    Filling(Ticket, Box<Filling>),
    /// The reply comes later, at its position.
    Later(LaterReply),
    /// When everything before it has been answered.
    Exclusive(Exclusive),
}

impl Services {
    /// The lane of a client, the same one until its protocol, database or login changes.
    pub fn lane<'a>(&self, session: &'a mut Session) -> &'a Lane {
        session.lane(&self.upstream)
    }

    /// Measures what has been answered at once since this was last called.
    pub fn note_answered(&self, session: &Session) {
        let under = self.timed.answered.take();
        if self.policy.traces && under.count() > 0 {
            self.trace_late(session, under.count());
        }
        self.metrics.clients.times.ended(&under.since(session.begun));
        if let Some(near) = &self.near {
            self.near_front.borrow_mut().count(near);
        }
    }

    /// What can be looked into.
    fn subject(&self) -> Subject {
        let upstream = self.upstream.endpoint().clone();
        let subject = self.owned.subject(self.about.clone(), upstream, self.clients.clone(), self.metrics.clone());
        subject.in_modes(self.router.modes.clone()).with_near(self.near.clone())
    }

    /// The newest of its worker's, if a reload of the configuration has brought one after this.
    #[must_use]
    pub fn latest(&self) -> Option<Rc<Self>> {
        self.edition.latest()
    }

    /// Where a client's request goes that no replica may answer.
    pub fn route_at_primary(&self, session: &mut Session, request: &Request<'_>) -> Route {
        let route = self.route(session, request);
        session.to = session.to.at_primary();
        route
    }

    /// Where a client's request goes, which is sent there.
    pub fn route(&self, session: &mut Session, request: &Request<'_>) -> Route {
        let route = self.way_of(session, request);
        let is_sent = match &route {
            Route::Refused(_) => false,
            Route::Unknown(unknown) => !unknown.is_asked_first(),
            _ => true,
        };
        if is_sent {
            self.detach(session, request);
        }
        self.unless_unpermitted(session, request, route)
    }

    /// Where a request would go of which nothing is sent yet.
    pub fn route_unsent(&self, session: &mut Session, request: &Request<'_>) -> Route {
        let route = self.way_of(session, request);
        self.unless_unpermitted(session, request, route)
    }

    /// Where a client's request goes, if its user may send it.
    fn way_of(&self, session: &mut Session, request: &Request<'_>) -> Route {
        let spec = self.spec_of(session, request);
        (session.spec, session.command) = (spec, spec.map(|spec| spec.id));
        if let Some(refused) = self.refusal(session, request, spec) {
            return refused;
        }
        let mut route = self.router.route(request, spec);
        if let Route::Unknown(unknown) = route
            && unknown.is_asked_first()
        {
            route = self.unless_unaskable(session, request, route);
        }
        if self.owned.is_incomplete() {
            route = self.owned.unless_loading(route);
        }
        if session.subscriber().is_some() {
            route = subscribe::route(session, route, request, spec);
        }
        if session.way.is_dedicated() {
            route = dedicated::route(session, request, route, self.upstream.is_cluster());
        }
        session.to = To::Home;
        if self.upstream.is_cluster() && !session.is_resp2_subscriber() {
            route = destination::within(self, session, request, route);
        }
        if self.router.modes.looks_twice() {
            route = self.unless_held(session, request, route);
            route = self.unless_settled(session, request, route);
            self.shadow(session, request, &route);
        }
        if self.upstream.reads_from_replicas() {
            reading::note(&self.upstream, session, request, &route);
        }
        route
    }

    /// The row of the table for a client's request.
    #[inline]
    fn spec_of(&self, session: &mut Session, request: &Request<'_>) -> Option<&'static Spec> {
        let table = self.upstream.endpoint().commands.edition();
        let again = session.spec.filter(|spec| session.table == table && spec.is_again(request));
        session.table = table;
        again.or_else(|| self.upstream.lookup(request.arg(0), request.arg(1)))
    }

    /// Answers `request`, which goes `route`; pass-through runs are the caller's, who gathers them.
    pub fn answer(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        match self.policy.is_followed {
            true => self.answer_followed(session, request, route, out),
            false => self.answer_tracked(session, request, route, out),
        }
    }

    /// The same, with a line in the audit log where one is due.
    fn answer_recorded(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        match self.policy.audits {
            true => self.answer_audited(session, request, route, out),
            false => self.answer_tracked(session, request, route, out),
        }
    }

    #[inline]
    fn answer_tracked(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        if session.way.state().tracking && route.is_owned() {
            return self.tracked(session, request, route, out);
        }
        self.answer_routed(session, request, route, out)
    }

    #[inline]
    fn answer_routed(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        let mut call = Call::new(self, session, request, out);
        match route {
            Route::Definition(key, answer) => call.definition(key, answer),
            Route::Cached(key, verb) => call.cached(key, verb),
            Route::NotAnswered(key) => call.not_answered(key),
            Route::Split(keys) => call.split(&keys),
            Route::Near(found) => call.near(found),
            Route::Spread(spread, spec) => call.spread(spread, spec),
            Route::Transaction(command, spec) => call.transaction(command, spec),
            Route::Pinned(Pin::Subscribe(kind), spec) if self.has_hub(call.session) => call.subscribe(kind, true, spec),
            Route::Pinned(Pin::Unsubscribe(kind), spec) if self.has_hub(call.session) => {
                call.subscribe(kind, false, spec)
            }
            Route::Local(local, spec) => call.local(local, spec),
            Route::Hearthside => call.hearthside(),
            Route::Pinned(pin, spec) => {
                session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
                Flow::Exclusive(Exclusive::Pinned(pin, spec, OwnedRequest::copy(request)))
            }
            Route::Unknown(unknown) => {
                if !unknown.is_asked_first() {
                    session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
                }
                Flow::Exclusive(Exclusive::Unknown(unknown, OwnedRequest::copy(request)))
            }
            Route::PassThrough(resendable) => self.forward(session, request, resendable),
            Route::Unanswered => {
                let run = Batch::expecting(Bytes::copy_from_slice(request.raw()), Expect::Nothing);
                Flow::Upstream(self.lane(session).submit(run))
            }
            Route::Unproven => Flow::Exclusive(Exclusive::Prove(OwnedRequest::copy(request))),
            Route::Held(held) => Flow::Exclusive(Exclusive::Held(held, OwnedRequest::copy(request))),
            Route::Fallback(route) => call.falls_back(*route),
            Route::Attack => {
                if let Some(unlogged) = self.metrics.clients.logged.http.due() {
                    let client = &session.peer.addresses.0;
                    tracing::warn!(
                        %client,
                        unlogged,
                        "a client speaks HTTP (POST or Host:), perhaps somebody's browser was made to; it is closed"
                    );
                }
                session.closing = true;
                Flow::Answered
            }
            Route::Refused(refusal) => {
                self.note_refused(call.session, request, &refusal);
                if call.session.way.state().follows_by().is_some() {
                    call.session.closing = true;
                    return Flow::Answered;
                }
                match request.is(0, "EXEC") {
                    true => call.refuse(&errors::as_redis::discarded_because(&refusal.text)),
                    false => call.refuse(&refusal.text),
                }
            }
        }
    }

    /// Asks the client's lane something of our own words; `resendable` if it only reads.
    fn ask(&self, session: &mut Session, words: &[&[u8]], resendable: bool) -> Ticket {
        self.lane(session).submit(Batch::one(encode::request_of(words), resendable))
    }

    /// Forwards one request alone.
    fn forward(&self, session: &mut Session, request: &Request<'_>, resendable: bool) -> Flow {
        session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        let batch = Batch::one(Bytes::copy_from_slice(request.raw()), resendable).to(session.to);
        Flow::Upstream(session.submit(&self.upstream, batch))
    }
}

/// A reply that is an error.
fn error_reply(text: &str) -> Pieces {
    let mut out = BytesMut::new();
    encode::error(&mut out, text);
    out.into()
}
