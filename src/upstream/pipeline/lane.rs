//! A lane: one persistent connection that all clients of a group share, and the task that keeps it.
//!
//! Invariant: what waits while there is no connection is bounded in bytes and in time.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::account::Account;
use super::batch::Batch;
use super::connection::{Connection, Ended};
use super::flight::Flight;
use super::queue::{Progress, Queue};
use super::ticket::{Ticket, ticket};
use crate::telemetry::Metrics;
use crate::upstream::Common;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::{ConnectError, Connected, connect};
use crate::upstream::group::Group;

/// How often what waits without a connection is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A handle on a lane. Cloning it is cheap; the lane's task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Lane {
    pub(crate) queue: Rc<RefCell<Queue>>,
    pub(crate) most_bytes: usize,
    pub(crate) seat: Rc<Seat>,
    /// `upstream.lane_patience`, on a lane that its client may leave for another.
    pub(crate) patience: Option<Duration>,
    /// It is not the one that its client begins with.
    pub(crate) is_other: bool,
}

/// A client's place on a lane.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Where it stands among the others.
    turn: Cell<u64>,
    account: Rc<Account>,
}

impl Seat {
    fn of(account: Rc<Account>) -> Rc<Self> {
        Rc::new(Self { turn: Cell::default(), account })
    }
}

impl Lane {
    /// Starts the lane's task on this thread. Without a connection it connects when the first run arrives.
    pub(crate) fn start(common: Arc<Common>, group: Group, connected: Option<Connected>) -> Self {
        let patience = Some(common.settings.lane_patience).filter(|patience| !patience.is_zero());
        let most_bytes = common.settings.queue_bytes.0;
        let (queue, seat) = (Rc::default(), Rc::default());
        let lane = Self { queue, most_bytes, seat, patience, is_other: false };
        Driver::new(common, group, &lane).start(connected);
        lane
    }

    /// Starts the task of a lane that one client has for itself, for as long as it may.
    pub(crate) fn start_private(
        common: Arc<Common>,
        group: Group,
        account: &Rc<Account>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let lane = Self::for_one(common.settings.queue_bytes.0, account.clone());
        common.metrics.pinned.inc();
        let lease = Lease { metrics: common.metrics.clone(), account: account.clone(), _permit: permit };
        Driver { lease: Some(lease), ..Driver::new(common, group, &lane) }.start(None);
        lane
    }

    /// A lane that one client has for itself, and does not leave, on which at most `most_bytes` wait.
    pub(crate) fn for_one(most_bytes: usize, account: Rc<Account>) -> Self {
        let (queue, seat) = (Rc::new(RefCell::new(Queue::of_one_client())), Seat::of(account));
        Self { queue, most_bytes, seat, patience: None, is_other: false }
    }

    /// How many hold a handle on it besides the caller.
    pub(crate) fn users(&self) -> usize {
        Rc::strong_count(&self.queue) - 1
    }

    /// Nothing waits on it, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_idle()
    }

    /// It is connected, and its front request has not taken too long.
    pub(crate) fn moves_on(&self) -> bool {
        !self.is_stuck() && !matches!(self.queue.borrow().progress, Progress::Away)
    }

    /// Its front request takes so long that nobody should queue up behind it who need not.
    pub(crate) fn is_stuck(&self) -> bool {
        match (self.queue.borrow().progress, self.patience) {
            (Progress::Since(since), Some(patience)) => since.elapsed() > patience,
            _ => false,
        }
    }

    /// Its client, with nothing under way, should look for another lane, or see whether its own moves on again.
    #[must_use]
    pub fn should_be_left(&self) -> bool {
        self.is_other || self.is_stuck()
    }

    /// The same lane for a client that takes turns with the others.
    pub(crate) fn of_another_client(&self, account: &Rc<Account>) -> Self {
        Self { seat: Seat::of(account.clone()), ..self.clone() }
    }

    /// Queues a run; its replies arrive at the ticket.
    #[must_use]
    pub fn submit(&self, run: Batch) -> Ticket {
        let (ticket, delivery) = ticket(self.seat.account.clone());
        let flight = Flight::new(run, delivery);
        let mut queue = self.queue.borrow_mut();
        if queue.has_room(&flight, self.most_bytes) {
            queue.push(flight, &self.seat.turn);
        } else {
            flight.fail(
                "LOADING hearthside: too much waits for the upstream (upstream.queue_bytes); the command was not sent",
            );
        }
        drop(queue);
        ticket
    }
}

/// The lane's task.
struct Driver {
    common: Arc<Common>,
    group: Group,
    queue: Weak<RefCell<Queue>>,
    /// Attempts in a row whose connection the upstream refused, or did not keep.
    attempt: u32,
    /// It has been connected before.
    was_connected: bool,
    /// Of a lane that one client has for itself.
    lease: Option<Lease>,
}

/// A lane that counts as one of those connections that are lent to one client each.
#[derive(Debug)]
struct Lease {
    metrics: Arc<Metrics>,
    /// Of its client.
    account: Rc<Account>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.metrics.pinned.dec();
    }
}

impl Driver {
    fn new(common: Arc<Common>, group: Group, lane: &Lane) -> Self {
        let queue = Rc::downgrade(&lane.queue);
        Self { common, group, queue, attempt: 0, was_connected: false, lease: None }
    }

    fn start(self, connected: Option<Connected>) {
        tokio::task::spawn_local(self.run(connected));
    }

    async fn run(mut self, connected: Option<Connected>) {
        let mut first = connected.map(|connected| self.begin(connected));
        while first.is_some() || self.work().await {
            let connection = match first.take() {
                Some(connection) => Some(connection),
                None => self.connected().await,
            };
            let Some(mut connection) = connection else { continue };
            self.tell(Progress::Idle);
            let ended = connection.drive().await;
            self.tell(Progress::Away);
            self.common.metrics.lanes_connected.dec();
            self.attempt = if connection.was_sound() { 0 } else { self.attempt + 1 };
            if let Ended::Lost(why) = ended {
                self.lost(connection, &why);
                self.pause(None).await;
            }
        }
    }

    /// Waits for something to send; false when no client can come any more.
    async fn work(&self) -> bool {
        std::future::poll_fn(|cx| match self.queue.upgrade() {
            None => Poll::Ready(false),
            Some(queue) if queue.borrow_mut().poll_empty(cx) => Poll::Pending,
            Some(_) => Poll::Ready(true),
        })
        .await
    }

    /// One attempt to connect, while what waits too long is answered.
    async fn connected(&mut self) -> Option<Connection> {
        let common = self.common.clone();
        match self.patiently(connect(&common, &self.group)).await {
            Ok(connected) => Some(self.begin(connected)),
            Err(error) => {
                self.common.metrics.lane_failures.inc();
                // An answer ("wrong password") will not change while a client waits; silence may.
                if error.may_pass() {
                    self.attempt += 1;
                    self.pause(None).await;
                } else if !matches!(error, ConnectError::Unreachable(..)) {
                    self.attempt += 1;
                    if self.attempt == 1 || self.attempt.is_multiple_of(20) {
                        tracing::warn!(error = error.reason(), attempt = self.attempt, "a lane cannot be connected");
                    }
                    self.pause(Some(&error.to_string())).await;
                }
                None
            }
        }
    }

    fn begin(&mut self, connected: Connected) -> Connection {
        self.common.metrics.lane_connects.inc();
        if std::mem::replace(&mut self.was_connected, true) {
            self.common.metrics.lane_reconnects.inc();
        }
        self.common.metrics.lanes_connected.inc();
        tracing::debug!(db = self.group.db, resp = self.group.proto.number(), "a lane is connected");
        let connection = Connection::new(connected, self.queue.clone(), self.common.clone(), None);
        connection.of(self.lease.as_ref().map(|lease| lease.account.clone()))
    }

    fn tell(&self, progress: Progress) {
        if let Some(queue) = self.queue.upgrade() {
            queue.borrow_mut().progress = progress;
        }
    }

    /// The pause before the next attempt of a lane that is refused or not kept; what comes meanwhile is answered with `refusal`.
    async fn pause(&self, refusal: Option<&str>) {
        if self.attempt == 0 {
            return;
        }
        let pause = tokio::time::sleep(backoff(self.attempt));
        match refusal {
            None => self.patiently(pause).await,
            Some(text) => self.answering(pause, || text.to_owned(), |_| true).await,
        }
    }

    /// Waits for `event`, while what has waited too long for the upstream is answered: at once if it has been away for long,
    /// not at all while commands are held back on purpose.
    async fn patiently<T>(&self, event: impl Future<Output = T>) -> T {
        let (patience, circuit) = (self.common.settings.queue_timeout, &self.common.circuit);
        let place = self.common.place.lookout(0);
        let is_closing = || self.common.gate.is_closing();
        let is_due = |waited| match place.paused_until() {
            Some(_) => is_closing(),
            None => waited >= patience || circuit.is_open(),
        };
        let error = || if is_closing() { ConnectError::Closing } else { self.common.unreachable() };
        self.answering(event, || error().to_string(), is_due).await
    }

    /// Waits for `event`, while what waits and `is_due` is answered with an error: as it comes, if it is due from the start.
    async fn answering<T>(
        &self,
        event: impl Future<Output = T>,
        error: impl Fn() -> String,
        is_due: impl Fn(Duration) -> bool,
    ) -> T {
        tokio::pin!(event);
        loop {
            tokio::select! {
                biased;
                happened = &mut event => return happened,
                true = self.work(), if is_due(Duration::ZERO) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            self.answer_due(&error, &is_due);
        }
    }

    fn answer_due(&self, error: impl Fn() -> String, is_due: impl Fn(Duration) -> bool) {
        let Some(queue) = self.queue.upgrade() else { return };
        let due = queue.borrow_mut().take_due(|flight| is_due(flight.since.elapsed()));
        due.into_iter().for_each(|flight| flight.fail(&error()));
    }

    /// The connection is gone: what may be sent again goes to the front of the queue.
    fn lost(&mut self, connection: Connection, why: &io::Error) {
        let Some(queue) = self.queue.upgrade() else { return };
        self.common.metrics.lane_failures.inc();
        let flights = connection.in_flight();
        tracing::warn!(error = %why, in_flight = flights, "a lane lost its connection");
        let salvaged: Vec<Flight> =
            connection.into_flights().filter_map(|(flight, written)| flight.salvage(written)).collect();
        let mut queue = queue.borrow_mut();
        for flight in salvaged.into_iter().rev() {
            queue.push_front(flight);
        }
    }
}
