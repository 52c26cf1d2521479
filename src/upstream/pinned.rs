//! A connection lent to one client while its state needs it (MULTI, WATCH, blocking, SUBSCRIBE, TRACKING, MONITOR):
//! a lane of its own.
//!
//! Invariants:
//! - only a connection given back explicitly, with nothing on its way, serves another client; one that is dropped is
//!   closed, whatever state it was in (hazard 14);
//! - the number of lent connections is bounded in the whole process, and so is the wait for one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::Common;
use super::account::Account;
use super::circuit::backoff;
use super::connect::{ConnectError, Connected, connect, connect_in};
use super::connection::{Connection, Ended};
use super::group::Group;
use super::inbox::Inbox;
use super::lane::{Lane, Seat};
use super::queue::Queue;
use super::run::{Expect, Run};
use crate::resp::Proto;
use crate::resp::pubsub::Kind;

type Idle = Rc<RefCell<HashMap<Group, Vec<Line>>>>;

/// The idle connections of one worker thread.
#[derive(Debug)]
pub(super) struct Pool {
    common: Arc<Common>,
    idle: Idle,
}

/// An open connection, counted.
#[derive(Debug)]
struct Line {
    connected: Option<Connected>,
    common: Arc<Common>,
}

impl Line {
    fn new(connected: Connected, common: Arc<Common>) -> Self {
        common.metrics.pinned.inc();
        Self { connected: Some(connected), common }
    }

    /// True when an idle connection is open and has nothing to say.
    async fn is_quiet(&mut self) -> bool {
        let Some(connected) = &mut self.connected else { return false };
        if !self.common.place.is_at(connected.generation) {
            return false;
        }
        let mut said = BytesMut::new();
        let read = std::future::poll_fn(|cx| {
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut connected.stream), cx, &mut said);
            std::task::Poll::Ready(read)
        });
        read.await.is_pending()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.common.metrics.pinned.dec();
    }
}

impl Pool {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { common, idle: Rc::default() }
    }

    /// An idle connection or a new one, when there may be one more.
    pub(super) async fn take(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.common.place.lookout(0).resumed().await;
        let permit = self.common.gate.enter().await?;
        // One that was given back a moment ago is idle when its task has run.
        tokio::task::yield_now().await;
        while let Some(mut line) = self.idle(group) {
            if line.is_quiet().await {
                return Ok(self.lend(line, group, account, permit));
            }
        }
        let connected = self.connect(group).await?;
        Ok(self.lend(Line::new(connected, self.common.clone()), group, account, permit))
    }

    /// Waits for an upstream that is away like what waits on a lane does.
    async fn connect(&self, group: &Group) -> Result<Connected, ConnectError> {
        let connect = async {
            let mut attempt = 0;
            loop {
                match connect(&self.common, group).await {
                    Err(ConnectError::Unreachable(..)) if !self.common.circuit.is_open() => {}
                    Err(error) if error.may_pass() => {
                        attempt += 1;
                        tokio::time::sleep(backoff(attempt)).await;
                    }
                    connected => return connected,
                }
            }
        };
        if self.common.circuit.is_open() {
            // Nobody waits, but somebody must try.
            return match self.common.circuit.take() {
                Ok(turn) => connect_in(turn, &self.common, group).await,
                Err(_) => Err(self.common.unreachable()),
            };
        }
        tokio::select! {
            connected = tokio::time::timeout(self.common.settings.queue_timeout, connect) => {
                connected.unwrap_or_else(|_| Err(self.common.unreachable()))
            }
            () = self.common.gate.closed() => Err(ConnectError::Closing),
        }
    }

    fn idle(&self, group: &Group) -> Option<Line> {
        self.idle.borrow_mut().get_mut(group).and_then(Vec::pop)
    }

    fn lend(&self, mut line: Line, group: &Group, account: &Rc<Account>, permit: OwnedSemaphorePermit) -> Pinned {
        let queue = Rc::new(RefCell::new(Queue::of_one_client()));
        let lane = Lane { queue, most_bytes: usize::MAX, seat: Seat::of(account.clone()) };
        let inbox = Inbox::new(group.proto, account.clone());
        let id = line.connected.as_ref().and_then(|connected| connected.id);
        if let Some(connected) = line.connected.take() {
            let (queue, generation) = (Rc::downgrade(&lane.queue), connected.generation);
            let connection = Connection::new(connected, queue.clone(), self.common.clone(), Some(inbox.clone()));
            let keeper = Keeper {
                line,
                id,
                group: group.clone(),
                idle: self.idle.clone(),
                queue,
                inbox: inbox.clone(),
                generation,
            };
            tokio::task::spawn_local(keeper.run(connection));
        }
        Pinned { lane, inbox, id, moved: false, deadline: self.common.settings.command_timeout, _permit: permit }
    }
}

/// The task of a lent connection.
struct Keeper {
    line: Line,
    id: Option<i64>,
    group: Group,
    idle: Idle,
    queue: Weak<RefCell<Queue>>,
    inbox: Inbox,
    /// The number of the place it leads to.
    generation: u64,
}

/// How long a command under way on a connection to an upstream that was given up may take to end.
const GRACE: Duration = Duration::from_secs(1);

impl Keeper {
    async fn run(mut self, mut connection: Connection) {
        let mut place = self.line.common.place.lookout(self.generation);
        let moved = async {
            place.moved().await;
            tokio::time::sleep(GRACE).await;
        };
        let ended = tokio::select! {
            ended = connection.drive_unasked() => ended,
            () = moved => Ended::Lost(std::io::Error::other("the upstream was changed")),
        };
        match ended {
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
                let mut idle = self.idle.borrow_mut();
                let lines = idle.entry(self.group).or_default();
                if lines.len() < self.line.common.settings.pinned_idle {
                    self.line.connected = Some(connection.into_connected(self.id));
                    lines.push(self.line);
                }
            }
        }
    }
}

/// A connection that belongs to one client. Dropping it closes it.
#[derive(Debug)]
pub struct Pinned {
    lane: Lane,
    /// What comes unasked.
    pub inbox: Inbox,
    /// The upstream's id of the connection (CLIENT ID), if it tells.
    pub id: Option<i64>,
    moved: bool,
    /// `upstream.command_timeout`.
    deadline: Duration,
    _permit: OwnedSemaphorePermit,
}

/// The connection was lost; text for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream connection was lost")]
pub struct Lost;

impl Pinned {
    /// The connection as the client's lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane.clone()
    }

    /// Sends one unit and waits for its replies; what was pushed before them goes to `pushes`.
    ///
    /// # Errors
    /// The connection is lost, or `upstream.command_timeout` is over.
    pub async fn ask(&self, request: Bytes, expect: Expect, pushes: &mut BytesMut) -> Result<Bytes, Lost> {
        let asked = self.ask_patiently(request, expect, pushes);
        if self.deadline.is_zero() {
            return asked.await;
        }
        tokio::time::timeout(self.deadline, asked).await.unwrap_or_else(|_| {
            tracing::warn!("a pinned connection gave no reply within upstream.command_timeout");
            Err(Lost)
        })
    }

    /// The same, however long it takes (blocking commands).
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn ask_patiently(&self, request: Bytes, expect: Expect, pushes: &mut BytesMut) -> Result<Bytes, Lost> {
        let (reply, pushed) = self.lane.submit(Run::expecting(request, expect)).parts().await.map_err(|_| Lost)?;
        pushes.extend_from_slice(&pushed);
        Ok(reply)
    }

    /// One request, one reply.
    ///
    /// # Errors
    /// The connection is lost, or `upstream.command_timeout` is over.
    pub async fn call(&self, request: &[u8], pushes: &mut BytesMut) -> Result<Bytes, Lost> {
        self.ask(Bytes::copy_from_slice(request), Expect::Replies(1), pushes).await
    }

    /// Waits until at most `most` bytes wait to be sent.
    pub async fn drained(&self, most: usize) {
        std::future::poll_fn(|cx| self.lane.queue.borrow_mut().poll_drained(most, cx)).await;
    }

    /// True when the connection is gone, and nothing more can be sent.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inbox.lost().is_some()
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

    /// From now on nothing that comes is told apart.
    pub fn listen(&self) {
        self.inbox.with(|state| state.raw = true);
    }

    /// The next request makes everything behind its reply out of band, if the upstream agrees.
    pub fn will_listen(&self) {
        self.inbox.with(|state| state.raw_next = true);
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
