//! A connection lent to one client while its state needs it (MULTI, WATCH, blocking, SUBSCRIBE, TRACKING, MONITOR,
//! commands that the table does not know): a lane of its own.
//!
//! Invariants:
//! - only a connection given back explicitly, with nothing on its way, serves another client; one that is dropped is
//!   closed, whatever state it was in (hazard 14);
//! - the number of lent connections is bounded in the whole process, and so is the wait for one.

pub(super) mod pool;
pub(super) mod pools;
pub(super) mod shelf;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::endpoint::Endpoint;
use super::endpoint::greeting::NAME;
use super::endpoint::group::Group;
use super::endpoint::waits::is_unblocked;
use super::pipeline::account::Account;
use super::pipeline::batch::{Batch, Expect};
use super::pipeline::connection::{Connection, Ended};
use super::pipeline::inbox::Inbox;
use super::pipeline::lane::Lane;
use super::pipeline::monitor_lines::OwnLines;
use super::pipeline::queue::Queue;
use super::pipeline::server_lane::ServerLane;
use crate::resp::pubsub::Kind;
use crate::resp::{Proto, encode};
use crate::telemetry::{LastingPart, caught};
use shelf::{Line, Shelf};

/// The task of a lent connection.
struct Keeper {
    line: Line,
    id: Option<i64>,
    group: Group,
    shelf: Rc<Shelf>,
    queue: Weak<RefCell<Queue>>,
    inbox: Inbox,
}

/// A longer name is not told the upstream.
const LONGEST_NAME: usize = 256;

/// How long a command under way on a connection to an upstream that was given up may take to end.
const GRACE: Duration = Duration::from_secs(1);

impl Keeper {
    async fn run(mut self, mut connection: Connection) {
        let endpoint = self.line.endpoint.clone();
        let driven = connection.drive_lent(GRACE);
        let ended = caught(LastingPart::UpstreamConnections, &endpoint.panics, driven).await;
        match ended.unwrap_or_else(|| connection.met_bug()) {
            Ended::Quiet => {}
            Ended::Lost(why) => {
                let was_slow = connection.was_slow();
                connection.into_flights().for_each(|(flight, written)| flight.lose(written));
                self.inbox.lose(why.to_string(), was_slow);
                if let Some(queue) = self.queue.upgrade() {
                    queue.borrow_mut().close();
                }
            }
            Ended::Retired => {
                self.line.connected = Some(connection.into_connected(self.id));
                self.shelf.keep(self.group, self.line);
            }
        }
    }
}

/// A connection that belongs to one client. Dropping it closes it.
#[derive(Debug)]
pub struct Pinned {
    lane: Lane,
    queue: Rc<RefCell<Queue>>,
    /// What comes unsolicited.
    pub inbox: Inbox,
    /// The upstream's id of the connection (CLIENT ID), if it tells.
    pub id: Option<i64>,
    /// The number of the location that it leads to.
    generation: u64,
    moved: bool,
    /// The name that it has at the upstream, and whose name it should have.
    name: Rc<RefCell<Bytes>>,
    account: Rc<Account>,
    /// Another one to the same server, where what its server tells of its client's keys arrives.
    pub ear: Option<Box<Self>>,
    pub(super) endpoint: Arc<Endpoint>,
    _permit: OwnedSemaphorePermit,
}

/// Who lends a connection, and the leave to.
struct Lender<'a> {
    shelf: &'a Rc<Shelf>,
    permit: OwnedSemaphorePermit,
}

/// The connection was lost; text for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream connection was lost")]
pub struct Lost;

impl Pinned {
    /// Lends `line` to the client of this account; idle again it lies on `shelf`.
    fn lend(mut line: Line, group: &Group, account: &Rc<Account>, lender: Lender<'_>) -> Self {
        let Lender { shelf, permit } = lender;
        let (lane, inbox) =
            (ServerLane::for_one(usize::MAX, account.clone()), Inbox::new(group.proto, account.clone()));
        let (name, account, endpoint) = (line.name.clone(), account.clone(), line.endpoint.clone());
        let connected = line.connected.take();
        let id = connected.as_ref().and_then(|connected| connected.id);
        let generation = connected.as_ref().map_or(0, |connected| connected.generation);
        // What was not greeted as it should be serves nobody else.
        let moved = connected.as_ref().is_some_and(|connected| connected.is_incomplete);
        let is_open = connected.is_some();
        if let Some(connected) = connected {
            let queue = Rc::downgrade(&lane.queue);
            let connection = Connection::new(connected, queue.clone(), line.endpoint.clone(), Some(inbox.clone()));
            let (group, shelf, inbox) = (group.clone(), shelf.clone(), inbox.clone());
            let keeper = Keeper { line, id, group, shelf, queue, inbox };
            tokio::task::spawn_local(keeper.run(connection));
        }
        let (queue, lane) = (lane.queue.clone(), Lane::Server(lane));
        let pinned =
            Self { lane, queue, inbox, id, generation, moved, name, account, ear: None, endpoint, _permit: permit };
        if is_open {
            pinned.take_name(false);
        }
        pinned
    }

    /// The connection as the client's lane.
    #[must_use]
    pub const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Gives the connection the name of its client, so that whoever looks at the upstream (SLOWLOG, CLIENT LIST) sees
    /// who it is. Nobody waits for the answer. HELLO, which every user may say, is a command like any other to a server
    /// that was told CLIENT CACHING (`said_caching`); a further CLIENT command is not.
    pub fn take_name(&self, said_caching: bool) {
        let name = Some(self.account.name()).filter(|name| name.len() <= LONGEST_NAME).unwrap_or_default();
        if *self.name.borrow() == name || !self.endpoint.version.has_hello() {
            return;
        }
        let version = self.inbox.with(|state| state.proto).number().to_string();
        let shown = if name.is_empty() { NAME.as_bytes() } else { &name };
        let words: &[&[u8]] = match said_caching {
            true => &[b"CLIENT", b"SETNAME", shown],
            false => &[b"HELLO", version.as_bytes(), b"SETNAME", NAME.as_bytes(), b"SETNAME", shown],
        };
        let _unread = self.lane.submit(Batch::expecting(encode::request_of(words), Expect::Replies(1)));
        self.name.replace(name);
    }

    /// Sends one unit and waits for its replies; what was pushed before them goes to `pushes`.
    ///
    /// # Errors
    /// The connection is lost, or `upstream.command_timeout` is over.
    pub async fn ask(&self, request: Bytes, expect: Expect, pushes: &mut BytesMut) -> Result<Bytes, Lost> {
        let asked = self.ask_patiently(request, expect, pushes);
        let deadline = self.endpoint.settings.command_timeout;
        if deadline.is_zero() {
            return asked.await;
        }
        tokio::time::timeout(deadline, asked).await.unwrap_or_else(|_| {
            if let Some(unlogged) = self.endpoint.metrics.pinned.unanswered.due() {
                tracing::warn!(unlogged, "a pinned connection gave no reply within upstream.command_timeout");
            }
            Err(Lost)
        })
    }

    /// The same, however long it takes (blocking commands). Nothing is sent before this is awaited.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn ask_patiently<'p>(
        &self,
        request: Bytes,
        expect: Expect,
        pushes: &'p mut BytesMut,
    ) -> impl Future<Output = Result<Bytes, Lost>> + use<'p> {
        let lane = self.lane.clone();
        async move {
            let asked = lane.submit(Batch::expecting(request, expect));
            drop(lane);
            let (reply, pushed) = asked.parts().await.map_err(|_| Lost)?;
            pushes.extend_from_slice(&pushed);
            Ok(reply.whole())
        }
    }

    /// The reply to what waits over this connection. If the upstream moves meanwhile, the server here is asked to end
    /// the wait: its reply is then what it has given already, or an error, `UNBLOCKED`, after which it will give
    /// nothing. Unless it `may_go_on` elsewhere, nobody is asked; nor of a node of a cluster, where others say that.
    pub fn unless_moved<T>(&self, may_go_on: bool, reply: impl Future<Output = T>) -> impl Future<Output = T> {
        let (endpoint, inbox, generation, id) = (self.endpoint.clone(), self.inbox.clone(), self.generation, self.id);
        async move {
            if !may_go_on || endpoint.node_name().is_some() {
                return reply.await;
            }
            inbox.with(|state| state.waits = true);
            let mut reply = pin!(reply);
            tokio::select! {
                biased;
                come = &mut reply => come,
                () = endpoint.end_wait_before(generation, id) => reply.await,
            }
        }
    }

    /// True when a wait that has ended with this reply goes on where the upstream is now.
    pub(super) fn is_ended_by_move(&self, reply: &[u8]) -> bool {
        let may_go_on = self.inbox.with(|state| state.waits);
        let is_left = may_go_on && !self.endpoint.location.is_at(self.generation);
        is_left && is_unblocked(reply)
    }

    /// One request, one reply.
    ///
    /// # Errors
    /// The connection is lost, or `upstream.command_timeout` is over.
    pub async fn call(&self, request: &[u8], pushes: &mut BytesMut) -> Result<Bytes, Lost> {
        self.ask(Bytes::copy_from_slice(request), Expect::Replies(1), pushes).await
    }

    /// What the server tells of its client's keys arrives there from now on, for the client of this id.
    pub fn hear_over(&mut self, ear: Self, client: u64) {
        self.inbox.redirects(ear.id.map(|id| (id, client)));
        self.ear = Some(Box::new(ear));
    }

    /// Waits until everything that it was given has been sent, and does not keep the connection open meanwhile. The
    /// task of the connection writes what it takes before anybody else on this thread has a turn.
    pub fn sent(&self) -> impl Future<Output = ()> + use<> {
        let queue = Rc::downgrade(&self.queue);
        std::future::poll_fn(move |cx| match queue.upgrade() {
            Some(queue) => queue.borrow_mut().poll_drained(0, cx),
            None => Poll::Ready(()),
        })
    }

    /// Waits until at most `most` bytes wait to be sent.
    pub async fn drained(&self, most: usize) {
        std::future::poll_fn(|cx| self.queue.borrow_mut().poll_drained(most, cx)).await;
    }

    /// True when the connection is gone, and nothing more can be sent.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inbox.lost().is_some() || self.ear.as_ref().is_some_and(|ear| ear.is_lost())
    }

    /// It has not answered: nothing is read from it any more.
    pub fn give_up(&self) {
        self.inbox.lose("it gave no reply".to_owned(), false);
    }

    /// Everything of one kind that is subscribed.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Bytes> {
        self.inbox.with(|state| state.subscriptions.names(kind))
    }

    /// Notes a confirmation that came inside another reply.
    pub fn confirm(&self, kind: Kind, name: Option<&[u8]>, on: bool) {
        self.inbox.with(|state| state.confirm(kind, name, on));
    }

    /// From now on replies and other messages are not distinguished.
    pub fn listen(&self) {
        self.inbox.with(|state| state.raw = true);
    }

    /// From now on what comes is bytes: neither replies nor other messages are delimited.
    pub fn pass_bytes(&self) {
        self.inbox.with(|state| (state.raw, state.undelimited) = (true, true));
    }

    /// The next request makes everything behind its reply out of band, if the upstream agrees.
    pub fn will_listen(&self) {
        self.inbox.with(|state| state.raw_next = true);
    }

    /// A monitor is shown nothing of the sidecar's own; and nothing at all of a node of a cluster, which sees only a
    /// part.
    pub fn will_monitor(&self, is_cluster: bool) {
        self.inbox.with(|state| state.own_lines = Some(OwnLines::of(is_cluster)));
        self.will_listen();
    }

    /// Notes that the connection speaks another protocol now.
    pub fn speaks(&mut self, proto: Proto) {
        self.inbox.with(|state| state.proto = proto);
        self.moved = true;
    }

    /// Notes that the connection may be in another database or protocol than it was opened in: it will not be reused.
    pub const fn moved(&mut self) {
        self.moved = true;
    }

    /// Gives back a connection that has no state. Its task sees to it that it also owes no reply.
    pub fn give_back(self) {
        self.inbox.with(|state| state.retired = !self.moved && !state.raw && state.subscriptions.is_empty());
    }
}
