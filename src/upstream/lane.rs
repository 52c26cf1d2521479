//! A lane: one persistent connection that all clients of a group share, and the task that keeps it.
//!
//! Invariant: what waits while there is no connection is bounded in bytes and in time.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Common;
use super::account::Account;
use super::circuit::backoff;
use super::connect::{ConnectError, connect};
use super::connection::{Connection, Ended};
use super::flight::Flight;
use super::group::Group;
use super::queue::Queue;
use super::run::Run;
use super::ticket::{Ticket, ticket};

/// How often what waits without a connection is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A handle on a lane. Cloning it is cheap; the lane's task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Lane {
    pub(super) queue: Rc<RefCell<Queue>>,
    pub(super) most_bytes: usize,
    pub(super) seat: Rc<Seat>,
}

/// A client's place on a lane.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Where it stands among the others.
    turn: Cell<u64>,
    account: Rc<Account>,
}

impl Seat {
    pub(super) fn of(account: Rc<Account>) -> Rc<Self> {
        Rc::new(Self { turn: Cell::default(), account })
    }
}

impl Lane {
    /// Starts the lane's task on this thread. It connects when the first run arrives.
    pub(super) fn start(common: Arc<Common>, group: Group) -> Self {
        let lane = Self { queue: Rc::default(), most_bytes: common.settings.queue_bytes.0, seat: Rc::default() };
        let driver = Driver { common, group, queue: Rc::downgrade(&lane.queue), attempt: 0, was_connected: false };
        tokio::task::spawn_local(driver.run());
        lane
    }

    /// True while somebody besides the caller holds a handle on it.
    pub(super) fn is_used(&self) -> bool {
        Rc::strong_count(&self.queue) > 1
    }

    /// The same lane for a client that takes turns with the others.
    pub(super) fn of_another_client(&self, account: &Rc<Account>) -> Self {
        Self { seat: Seat::of(account.clone()), ..self.clone() }
    }

    /// Queues a run; its replies arrive at the ticket.
    #[must_use]
    pub fn submit(&self, run: Run) -> Ticket {
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
}

impl Driver {
    async fn run(mut self) {
        while self.work().await {
            let Some(mut connection) = self.connected().await else { continue };
            let ended = connection.drive().await;
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
            Ok(connected) => {
                self.common.metrics.lane_connects.inc();
                if std::mem::replace(&mut self.was_connected, true) {
                    self.common.metrics.lane_reconnects.inc();
                }
                self.common.metrics.lanes_connected.inc();
                tracing::debug!(db = self.group.db, resp = self.group.proto.number(), "a lane is connected");
                Some(Connection::new(connected, self.queue.clone(), self.common.clone(), None))
            }
            Err(error) => {
                self.common.metrics.lane_failures.inc();
                // An answer ("wrong password") will not change while a client waits; silence may.
                if error.may_pass() {
                    self.attempt += 1;
                    self.pause(None).await;
                } else if !matches!(error, ConnectError::Unreachable(..)) {
                    self.attempt += 1;
                    if self.attempt == 1 || self.attempt.is_multiple_of(20) {
                        tracing::warn!(%error, attempt = self.attempt, "a lane cannot be connected");
                    }
                    self.pause(Some(&error.to_string())).await;
                }
                None
            }
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
        let is_due = |waited| place.paused_until().is_none() && (waited >= patience || circuit.is_open());
        self.answering(event, || self.common.unreachable().to_string(), is_due).await
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
