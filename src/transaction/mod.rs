//! MULTI, EXEC, DISCARD, WATCH over the client's own connection, with reads of owned keys in their places.
//!
//! Invariants:
//! - the upstream sees MULTI only when a command needs it: a transaction over owned keys alone works without it;
//! - owned commands run after the upstream's EXEC went through, and not at all if it did not;
//! - a client that leaves in the middle closes its connection, so the upstream discards the transaction.

mod queue;
mod splice;
mod store;
mod topics;

use bytes::{BufMut, Bytes, BytesMut};

pub use queue::pushes;
use queue::{Place, place};
use splice::{Queued, splice};
use topics::Topics;

use crate::cache::Watched;
use crate::command::{OwnedRequest, Request};
use crate::dispatch::{Context, Session, wrong_arity, wrong_exec};
use crate::resp::{encode, reply};
use crate::route::{Route, Transaction as Command};
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Kept, Pinned};

/// One client's transaction, from MULTI or WATCH to its end.
#[derive(Debug, Default)]
pub struct Transaction {
    watching: bool,
    in_multi: bool,
    /// The upstream has been told MULTI.
    is_open: bool,
    /// A command could not be queued: EXEC will abort.
    dirty: bool,
    queued: Vec<Queued>,
    /// Bytes of those that are kept here.
    kept: Option<Kept>,
    topics: Option<Topics>,
    /// Cached keys that it watches.
    watched: Vec<Watched>,
    /// What it queued or watched means something else since a reload.
    is_outdated: bool,
}

/// Where a transaction works: everything of the client but its socket.
pub struct Desk<'a> {
    /// Who answers.
    pub context: &'a Context,
    /// The client.
    pub session: &'a mut Session,
    /// Its own connection; lent when one is needed, `None` again when it was lost.
    pub own: &'a mut Option<Pinned>,
    /// Its replies.
    pub out: &'a mut BytesMut,
    /// Its push messages, if its replies are muted.
    pub pushes: Option<&'a mut BytesMut>,
}

impl Desk<'_> {
    /// Where push messages go: among the replies, unless those are muted.
    fn pushes(&mut self) -> &mut BytesMut {
        match &mut self.pushes {
            Some(pushes) => pushes,
            None => self.out,
        }
    }
}

const OUTDATED: &str =
    "EXECABORT hearthside: the configuration was reloaded inside this transaction; nothing was done, send it again";
const EXECABORT: &str = "EXECABORT Transaction discarded because of previous errors.";
const LOST: &str = "ERR hearthside: the upstream connection of this transaction was lost";
const OWN_MESSAGE: &str = "ERR hearthside: publishing inside MULTI to a channel that the client itself is subscribed to is not \
                           supported: the message would stand between the elements of EXEC's reply";
const MAYBE_APPLIED: &str =
    "ERR hearthside: the upstream connection of this transaction was lost; the transaction may have been applied";

impl Transaction {
    /// True while every command of the client must come here; a client that only watches sends the others as usual.
    #[must_use]
    pub const fn takes_all(&self) -> bool {
        self.in_multi
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

    /// What the client may do has changed: what it queued was judged by other rules.
    pub const fn outdate_queue(&mut self) {
        self.is_outdated |= self.in_multi;
    }

    /// Commands queued since MULTI, for CLIENT LIST.
    #[must_use]
    pub fn queued(&self) -> Option<usize> {
        self.in_multi.then_some(self.queued.len())
    }

    /// Answers one command of the transaction.
    pub async fn command(&mut self, desk: &mut Desk<'_>, request: &OwnedRequest) {
        let request = request.view();
        match desk.context.route(desk.session, &request) {
            Route::Transaction(command, spec) => {
                if spec.accepts(request.len()) {
                    self.own(desk, command, &request).await;
                } else if command == Command::Exec {
                    self.discard(desk).await;
                    wrong_exec(desk.out);
                } else {
                    self.dirty |= self.in_multi;
                    wrong_arity(spec, desk.out);
                }
            }
            route => self.queue(desk, &request, route).await,
        }
    }

    async fn own(&mut self, desk: &mut Desk<'_>, command: Command, request: &Request<'_>) {
        match command {
            Command::Multi if self.in_multi => encode::error(desk.out, "ERR MULTI calls can not be nested"),
            Command::Multi => {
                self.in_multi = true;
                encode::simple(desk.out, "OK");
            }
            Command::Watch if self.in_multi => encode::error(desk.out, "ERR WATCH inside MULTI is not allowed"),
            Command::Watch => self.watch(desk, request).await,
            Command::Unwatch if self.in_multi => self.forward_all(desk, &[request.raw()], Queued::Upstream).await,
            Command::Unwatch => self.unwatch(desk, request).await,
            Command::Discard if self.in_multi => {
                self.discard(desk).await;
                encode::simple(desk.out, "OK");
            }
            Command::Discard => encode::error(desk.out, "ERR DISCARD without MULTI"),
            Command::Exec if self.in_multi => self.exec(desk).await,
            Command::Exec => encode::error(desk.out, "ERR EXEC without MULTI"),
        }
    }

    async fn watch(&mut self, desk: &mut Desk<'_>, request: &Request<'_>) {
        let (mut foreign, mut words) = (BytesMut::new(), vec![request.arg(0)]);
        for key in request.args_from(1) {
            match desk.context.router.owner(key) {
                Some(mapping) if desk.context.owned.is_loading(mapping) => {
                    return encode::error(desk.out, &desk.context.owned.loading_error(mapping));
                }
                // Definitions change as a whole set, and no transaction writes them.
                Some(mapping) if desk.context.owned.is_definition(mapping) => {}
                Some(mapping) => match desk.context.owned.cache.watch(mapping, &Bytes::copy_from_slice(key)).await {
                    Ok(watched) => self.watched.push(watched),
                    Err(error) => return encode::error(desk.out, &desk.context.owned.load_error(mapping, &error)),
                },
                None => words.push(key),
            }
        }
        if words.len() == 1 {
            return encode::simple(desk.out, "OK");
        }
        encode::request(&mut foreign, &words);
        match self.call(desk, &foreign).await {
            Ok(reply) => {
                self.watching = true;
                desk.out.put_slice(&reply);
            }
            Err(text) => encode::error(desk.out, &text),
        }
    }

    async fn unwatch(&mut self, desk: &mut Desk<'_>, request: &Request<'_>) {
        // What a lost connection watched went with it.
        if self.watching && self.call(desk, request.raw()).await.is_err() {
            tracing::debug!("a connection was lost before UNWATCH");
        }
        self.watching = false;
        self.watched.clear();
        encode::simple(desk.out, "OK");
    }

    async fn queue(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, route: Route) {
        match place(desk.context, desk.session, request, &route) {
            Place::Upstream(_) if self.topics(desk).hear(request) => self.refuse(desk, OWN_MESSAGE),
            Place::Refused(text) => self.refuse(desk, &text),
            Place::Upstream(queued) => self.forward_all(desk, &[request.raw()], queued).await,
            Place::Rewritten(commands, queued) => self.forward_all(desk, &commands, queued).await,
            Place::Subscribe(kind, on) => {
                let commands = self.topics(desk).split(request, kind, on);
                let confirmations = commands.len();
                self.forward_all(desk, &commands, Queued::Subscribe(confirmations)).await;
            }
            // To a subscriber it is answered otherwise.
            Place::Here if request.is(0, "PING") && self.topics(desk).is_any() => {
                self.forward_all(desk, &[request.raw()], Queued::Upstream).await;
            }
            Place::Here => {
                let kept = self.kept.get_or_insert_with(|| Kept::new(desk.session.account.clone()));
                kept.more(request.raw().len() + request.len() * size_of::<usize>() * 2 + size_of::<Queued>());
                self.queued.push(Queued::Here(OwnedRequest::copy(request), route));
                encode::simple(desk.out, "QUEUED");
            }
        }
    }

    fn refuse(&mut self, desk: &mut Desk<'_>, text: &str) {
        self.dirty = true;
        desk.session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
        encode::error(desk.out, text);
    }

    /// Queues a command upstream, perhaps in several parts; the client sees one reply.
    async fn forward_all<A: AsRef<[u8]>>(&mut self, desk: &mut Desk<'_>, commands: &[A], queued: Queued) {
        desk.session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        let mut told = Bytes::new();
        for command in commands {
            match self.queue_upstream(desk, command.as_ref()).await {
                // An error here has made the upstream's transaction dirty already.
                Ok(reply) if told.is_empty() || !reply.starts_with(b"+") => told = reply,
                Ok(_) => {}
                Err(text) => {
                    self.dirty = true;
                    return encode::error(desk.out, &text);
                }
            }
        }
        if told.starts_with(b"+") {
            self.queued.push(queued);
        }
        desk.out.put_slice(&told);
    }

    /// What will be subscribed when the commands queued so far have run.
    fn topics(&mut self, desk: &Desk<'_>) -> &mut Topics {
        self.topics.get_or_insert_with(|| Topics::of(desk.own.as_ref()))
    }

    /// Tells the upstream MULTI, once.
    async fn open(&mut self, desk: &mut Desk<'_>) -> Result<(), String> {
        if !self.is_open {
            self.call(desk, b"*1\r\n$5\r\nMULTI\r\n").await?;
            self.is_open = true;
        }
        Ok(())
    }

    async fn queue_upstream(&mut self, desk: &mut Desk<'_>, raw: &[u8]) -> Result<Bytes, String> {
        self.open(desk).await?;
        self.call(desk, raw).await
    }

    /// One request over the client's own connection, which is lent if need be.
    async fn call(&mut self, desk: &mut Desk<'_>, raw: &[u8]) -> Result<Bytes, String> {
        let pinned = match desk.own.take() {
            Some(pinned) => pinned,
            // A connection that was lost took its MULTI and WATCH with it.
            None if self.is_open || self.watching => return Err(LOST.into()),
            None => desk.context.pin(desk.session).await.map_err(|error| error.to_string())?,
        };
        let reply = pinned.call(raw, desk.pushes()).await.map_err(|_| LOST)?;
        *desk.own = Some(pinned);
        Ok(reply)
    }

    /// Ends the transaction without running it.
    async fn discard(&mut self, desk: &mut Desk<'_>) {
        let end: &[u8] = if self.is_open { b"*1\r\n$7\r\nDISCARD\r\n" } else { b"*1\r\n$7\r\nUNWATCH\r\n" };
        if self.is_open || self.watching {
            // With a connection that is lost everything is discarded already.
            let _lost = self.call(desk, end).await;
        }
        *self = Self::default();
    }

    async fn exec(&mut self, desk: &mut Desk<'_>) {
        if self.dirty || self.is_outdated {
            let text = if self.dirty { EXECABORT } else { OUTDATED };
            self.discard(desk).await;
            encode::error(desk.out, text);
            return;
        }
        let part = store::part(desk.context, &self.queued);
        let (steps, watched) = (part.steps, std::mem::take(&mut self.watched));
        let prepared = if steps.is_empty() && watched.is_empty() {
            None
        } else {
            match desk.context.owned.cache.batch(steps, watched).prepared().await {
                Ok(Some(prepared)) => Some(prepared),
                Ok(None) => {
                    self.discard(desk).await;
                    return encode::null_array(desk.out, desk.session.proto());
                }
                Err(error) => {
                    self.discard(desk).await;
                    return encode::error(
                        desk.out,
                        &format!("ERR hearthside: nothing of the transaction was done: {error}"),
                    );
                }
            }
        };
        let upstream = if self.is_open || self.watching { Some(self.exec_upstream(desk).await) } else { None };
        let queued = std::mem::take(&mut self.queued);
        *self = Self::default();
        let reply = match upstream {
            Some(Err(text)) => return encode::error(desk.out, &text),
            Some(Ok(reply)) => reply,
            None => Bytes::from_static(b"*0\r\n"),
        };
        // Null (a watched key changed) or an error: nothing has run, and nothing of ours shall.
        let Some(elements) = reply::elements(&reply) else { return desk.out.put_slice(&reply) };
        // Should the store refuse now, the upstream's part has run: each of our commands says so in its place.
        let done = match prepared {
            None => Ok(Vec::new()),
            Some(prepared) => prepared.commit().await,
        };
        splice(desk, queued, &elements, (&part.ours, &done)).await;
    }

    async fn exec_upstream(&mut self, desk: &mut Desk<'_>) -> Result<Bytes, String> {
        self.open(desk).await?;
        let reply = self.call(desk, b"*1\r\n$4\r\nEXEC\r\n").await;
        reply.map_err(|_| MAYBE_APPLIED.into())
    }
}
