//! MULTI, EXEC, DISCARD and WATCH over the client's own connection, with the replies for owned keys at their positions.
//!
//! A command is sent as it comes, and its QUEUED is read when it arrives. The client waits only for a connection of its
//! own, for what it watches of the store, and at EXEC for what is decided there (decision 0019).
//!
//! Invariants:
//! - the upstream sees MULTI only when a command needs it: a transaction over owned keys alone works without it;
//! - owned commands run after the upstream's EXEC went through, and not at all if it did not;
//! - a client that leaves in the middle closes its connection, so the upstream discards the transaction.

mod answers;
mod audit;
mod exec;
mod node;
mod queue;
mod queued;
mod queued_replies;
mod splice;
mod store;
mod topics;
mod traced;
mod watching;

use bytes::{BufMut, Bytes, BytesMut};

use exec::Exec;
use node::Node;
pub use queue::pushes;
use queue::{Place, place};
use queued::{Queue, Queued};
pub use queued_replies::{refuses, summary};
use topics::Topics;

use crate::cache::Watched;
use crate::command::{OwnedRequest, Request};
use crate::dispatch::{Services, wrong_arity, wrong_exec};
use crate::errors;
use crate::keys::MappingId;
use crate::resp::encode;
use crate::resp::pieces::Pieces;
use crate::route::{Local, Refusal, Route, Transaction as Command};
use crate::session::Session;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Batch, Loss};

/// One client's transaction, from MULTI or WATCH to its end.
#[derive(Debug, Default)]
pub struct Transaction {
    watching: bool,
    in_multi: bool,
    /// The upstream has received MULTI.
    is_open: bool,
    /// A command could not be queued: EXEC will abort.
    dirty: bool,
    queue: Queue,
    topics: Option<Topics>,
    /// Cached keys that it watches.
    watched: Vec<Watched>,
    /// Keys of any kind that it watches.
    watching_keys: usize,
    /// What it queued or watched means something else since a reload.
    is_outdated: bool,
    /// The mappings whose patterns match keys that it names, whoever answers for them.
    mapped: Vec<MappingId>,
    /// Why there is no connection for it.
    unreachable: Option<String>,
    /// EXEC, when it has begun and our part is still to come.
    exec: Option<Exec>,
    /// Where it is, if the upstream is a cluster.
    node: Node,
}

/// What a transaction works with: everything about the client but its socket.
pub struct Desk<'a> {
    /// Who answers.
    pub services: &'a Services,
    /// The client.
    pub session: &'a mut Session,
    /// Its next replies.
    pub out: &'a mut BytesMut,
    /// Its push messages, if its replies are muted.
    pub pushes: Option<&'a mut BytesMut>,
    /// A command has been answered with an error since MULTI.
    pub is_refused: bool,
}

impl<'a> Desk<'a> {
    /// Where no push messages are muted, and nothing has been answered with an error.
    pub const fn new(services: &'a Services, session: &'a mut Session, out: &'a mut BytesMut) -> Self {
        Self { services, session, out, pushes: None, is_refused: false }
    }

    /// True when monitors are to be shown what is done here.
    fn shows(&self) -> bool {
        self.services.clients.monitors.is_any() && !self.services.upstream.is_cluster()
    }

    /// Where push messages go: among the replies, unless those are muted.
    fn pushes(&mut self) -> &mut BytesMut {
        match &mut self.pushes {
            Some(pushes) => pushes,
            None => self.out,
        }
    }
}

/// What becomes of one command of a transaction.
pub enum Taken {
    /// Its reply is in `out`.
    Answered,
    /// It goes over the client's own connection as it is, and has one reply.
    Passes,
    /// This is sent instead, perhaps with several replies: the client gets the one that [`summary`] finds.
    Sends(Batch),
    /// The same, and its one reply is the transaction's last.
    Last(Batch),
    /// The transaction has ended with this reply.
    Ended(Pieces),
    /// The transaction has ended, its reply is in `out`; the upstream's reply to this is dropped.
    Ends(Option<Batch>),
    /// Something must happen first, when everything before it has been answered.
    Waits(Wait, Route),
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A connection of the client's own.
    Connection,
    /// The records that it watches.
    Records,
    /// What EXEC decides.
    Decision,
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// What commands up to EXEC are answered with when the connection is lost.
pub const QUEUE_LOSS: Loss = Loss { sent: errors::transaction::LOST, unsent: errors::transaction::LOST };
/// The same for EXEC.
const EXEC_LOSS: Loss = Loss { sent: errors::transaction::LOST_AT_EXEC, unsent: errors::transaction::LOST_BEFORE_EXEC };
/// The same where the store has a part, which was undone.
const PART_LOSS: Loss = Loss { sent: errors::transaction::LOST_AT_EXEC_WITH_WRITES, ..EXEC_LOSS };

impl Transaction {
    /// True while every command of the client must come here; a client that only watches sends the others as usual.
    #[must_use]
    pub const fn takes_all(&self) -> bool {
        self.in_multi
    }

    /// It has asked the upstream to watch keys, watches none of the store's, and nothing was queued.
    #[must_use]
    pub const fn only_watches_upstream(&self) -> bool {
        self.watching && !self.in_multi && self.watched.is_empty()
    }

    /// Keys that it watches.
    #[must_use]
    pub const fn watching_keys(&self) -> usize {
        self.watching_keys
    }

    /// True when nothing remains to be remembered.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !self.in_multi && !self.watching && self.watched.is_empty()
    }

    /// The configuration was reloaded: what was queued was judged by another one.
    pub const fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Mappings may be in other modes: another one answers for what was queued or is watched then.
    pub fn outdate_mapped(&mut self, is_in_another: impl Fn(MappingId) -> bool) {
        self.is_outdated |= self.mapped.iter().any(|mapping| is_in_another(*mapping));
    }

    /// What the client may do has changed: what it queued was judged by other rules.
    pub const fn outdate_queue(&mut self) {
        self.is_outdated |= self.in_multi;
    }

    /// Commands queued since MULTI, for CLIENT LIST.
    #[must_use]
    pub fn queued(&self) -> Option<usize> {
        self.in_multi.then_some(self.queue.len())
    }

    /// Bytes of the commands that are kept here until EXEC.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.queue.kept() + self.node.kept()
    }

    /// There is no connection, and why.
    pub fn cannot_connect(&mut self, why: String) {
        self.unreachable = Some(why);
    }

    /// Takes one command, which goes `route`. A command that is put off is taken again when it has what it waits for.
    pub fn take(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, route: Route) -> Taken {
        self.note_mapped(desk, request, &route);
        match route {
            Route::Transaction(command, spec) if spec.accepts(request.len()) => self.own(desk, command, request, route),
            Route::Transaction(Command::Exec, _) => {
                wrong_exec(desk.out);
                self.end()
            }
            Route::Transaction(_, spec) => {
                self.dirty |= self.in_multi;
                wrong_arity(spec, desk.out);
                Taken::Answered
            }
            // As in Redis, a transaction that may not be run is over.
            Route::Refused(Refusal { text, .. }) if request.is(0, "EXEC") => {
                self.abort(desk, &errors::as_redis::discarded_because(&text))
            }
            route => self.queue(desk, request, route),
        }
    }

    /// Notes whether it is of keys for which somebody else may answer soon.
    fn note_mapped(&mut self, desk: &Desk<'_>, request: &Request<'_>, route: &Route) {
        let (router, is_watch) = (&desk.services.router, matches!(route, Route::Transaction(Command::Watch, _)));
        // Where every mapping is on, its keys are owned.
        if route.is_owned() || is_watch || router.modes.is_partial() {
            desk.session.spec.into_iter().for_each(|spec| router.matched(request, spec, &mut self.mapped));
        }
    }

    /// MULTI, EXEC and related commands.
    fn own(&mut self, desk: &mut Desk<'_>, command: Command, request: &Request<'_>, route: Route) -> Taken {
        if let Route::Transaction(_, spec) = &route
            && self.in_multi
            && spec.flags.no_multi
        {
            self.dirty = true;
            encode::error(desk.out, &errors::as_redis::not_in_multi(&spec.name));
            return Taken::Answered;
        }
        match command {
            Command::Multi if self.in_multi => encode::error(desk.out, errors::as_redis::NESTED_MULTI),
            Command::Multi => {
                self.in_multi = true;
                encode::simple(desk.out, "OK");
            }
            Command::Watch if self.in_multi => encode::error(desk.out, errors::as_redis::WATCH_IN_MULTI),
            Command::Watch => return self.watch(desk, request, route),
            Command::Unwatch if self.in_multi => return self.queue(desk, request, route),
            Command::Discard if !self.in_multi => encode::error(desk.out, errors::as_redis::DISCARD_WITHOUT_MULTI),
            Command::Unwatch | Command::Discard => {
                encode::simple(desk.out, "OK");
                if desk.shows() && !self.asks_upstream() {
                    self.show_multi(desk);
                    desk.services.show(desk.session, request);
                }
                return self.end();
            }
            Command::Exec if self.in_multi => return self.exec(desk, route),
            Command::Exec => encode::error(desk.out, errors::as_redis::EXEC_WITHOUT_MULTI),
        }
        Taken::Answered
    }

    /// The upstream has not shown it.
    fn show_multi(&self, desk: &Desk<'_>) {
        if self.in_multi {
            desk.services.show_word(desk.session, "MULTI");
        }
    }

    fn queue(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, route: Route) -> Taken {
        let place = match place(desk.services, desk.session, request, &route) {
            Place::Upstream(_) if self.topics(desk).hear(request) => {
                Place::Refused(errors::transaction::OWN_MESSAGE.into())
            }
            // To a subscriber it is answered otherwise.
            Place::Here if matches!(route, Route::Local(Local::Ping, _)) && self.topics(desk).is_any() => {
                Place::Upstream(Queued::Upstream(1))
            }
            place => place,
        };
        if !matches!(place, Place::Refused(_) | Place::Here) {
            if let Some(text) = self.is_elsewhere(desk, request) {
                return self.refuse(desk, &text);
            }
            match self.road(desk) {
                Road::Open => {}
                Road::Wanted => return Taken::Waits(Wait::Connection, route),
                Road::Closed(text) => return self.refuse(desk, &text),
            }
        }
        if !matches!(place, Place::Refused(_) | Place::Here) {
            desk.services.note_passed(desk.session, request, &route);
        }
        match place {
            Place::Refused(text) => {
                desk.audit_refused(request, &route, &text);
                if let Route::Refused(refusal) = &route {
                    desk.services.note_refused(desk.session, request, refusal);
                }
                self.refuse(desk, &text)
            }
            Place::Upstream(queued) => self.forward(desk, request, queued),
            Place::Rewritten(commands, queued) => self.forward_all(desk, &commands, queued),
            Place::Subscribe(kind, on) => {
                let commands = self.topics(desk).split(request, kind, on);
                self.forward_all(desk, &commands, Queued::Subscribe(commands.len()))
            }
            Place::Here => self.keep(desk, request, route),
        }
    }

    /// Keeps a command that is ours until EXEC.
    fn keep(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, route: Route) -> Taken {
        let most = desk.services.policy.limits.request.0;
        if self.queue.kept() + request.raw().len() > most {
            return self.refuse(desk, &errors::limits::transaction_too_long(most));
        }
        self.queue.push(Queued::Here(OwnedRequest::copy(request), route));
        encode::simple(desk.out, "QUEUED");
        Taken::Answered
    }

    fn refuse(&mut self, desk: &mut Desk<'_>, text: &str) -> Taken {
        self.dirty = true;
        desk.session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
        encode::error(desk.out, text);
        Taken::Answered
    }

    /// Queues a command upstream as it is; the first of them behind MULTI.
    fn forward(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, queued: Queued) -> Taken {
        if !self.is_open {
            return self.forward_all(desk, &[request.raw()], queued);
        }
        desk.session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        self.queue.push(queued);
        Taken::Passes
    }

    /// Queues a command upstream, perhaps in several parts; the client sees one reply.
    fn forward_all<A: AsRef<[u8]>>(&mut self, desk: &mut Desk<'_>, commands: &[A], queued: Queued) -> Taken {
        desk.session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        let opens = !std::mem::replace(&mut self.is_open, true);
        let mut bytes = BytesMut::from(if opens { MULTI } else { b"" });
        commands.iter().for_each(|command| bytes.put_slice(command.as_ref()));
        self.queue.push(queued);
        Taken::Sends(Batch::queued(bytes.freeze(), commands.len() as u32 + u32::from(opens), QUEUE_LOSS))
    }

    /// What will be subscribed when the commands queued so far have run.
    fn topics(&mut self, desk: &Desk<'_>) -> &mut Topics {
        self.topics.get_or_insert_with(|| Topics::of(desk.session.way.transacting()))
    }

    fn road(&self, desk: &Desk<'_>) -> Road {
        match desk.session.way.transacting() {
            // One that is lost answers for itself.
            Some(_) => Road::Open,
            // Its MULTI and WATCH were lost with it.
            None if self.is_open || self.watching => Road::Closed(errors::transaction::LOST.into()),
            None => self.unreachable.clone().map_or(Road::Wanted, Road::Closed),
        }
    }

    /// Ends the transaction with an error.
    fn abort(&mut self, desk: &mut Desk<'_>, text: &str) -> Taken {
        encode::error(desk.out, text);
        desk.audit_unrun(&self.queue, text);
        self.end()
    }

    /// Ends the transaction without running it.
    fn end(&mut self) -> Taken {
        let word: Option<&'static [u8]> = match () {
            () if self.is_open => Some(b"*1\r\n$7\r\nDISCARD\r\n"),
            () if self.watching => Some(b"*1\r\n$7\r\nUNWATCH\r\n"),
            () => None,
        };
        *self = Self::default();
        Taken::Ends(word.map(|word| Batch::queued(Bytes::from_static(word), 1, QUEUE_LOSS)))
    }
}

/// Whether something can be sent over the client's own connection.
enum Road {
    Open,
    /// It has none yet.
    Wanted,
    /// It will have none: the error for the client.
    Closed(String),
}
