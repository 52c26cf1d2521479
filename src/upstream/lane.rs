//! A lane: one persistent connection that all clients of a group share, and the task that keeps it.
//!
//! Invariant: what waits while there is no connection is bounded in bytes and in time.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Common;
use super::connect::{ConnectError, connect};
use super::connection::{Connection, Ended};
use super::flight::Flight;
use super::group::Group;
use super::queue::Queue;
use super::run::Run;
use super::ticket::{Ticket, ticket};

/// A handle on a lane. Cloning it is cheap; the lane's task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Lane {
    pub(super) queue: Rc<RefCell<Queue>>,
    pub(super) most_bytes: usize,
}

impl Lane {
    /// Starts the lane's task on this thread. It connects when the first run arrives.
    pub(super) fn start(common: Arc<Common>, group: Group) -> Self {
        let lane = Self { queue: Rc::default(), most_bytes: common.settings.queue_bytes.0 };
        let driver = Driver { common, group, queue: Rc::downgrade(&lane.queue), attempt: 0, was_connected: false };
        tokio::task::spawn_local(driver.run());
        lane
    }

    /// True while somebody besides the caller holds a handle on it.
    pub(super) fn is_used(&self) -> bool {
        Rc::strong_count(&self.queue) > 1
    }

    /// Queues a run; its replies arrive at the ticket.
    #[must_use]
    pub fn submit(&self, run: Run) -> Ticket {
        let (ticket, delivery) = ticket();
        let flight = Flight::new(run, delivery);
        let mut queue = self.queue.borrow_mut();
        if queue.has_room(&flight, self.most_bytes) {
            queue.push(flight);
        } else {
            flight.fail(
                "ERR hearthside: too much waits for the upstream (upstream.queue_bytes); the command was not sent",
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
            if let Ended::Lost(why) = ended {
                self.lost(connection, &why);
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

    /// One attempt to connect; on failure waits as long as the backoff says, while what waits too long is answered.
    async fn connected(&mut self) -> Option<Connection> {
        match connect(&self.common, &self.group).await {
            Ok(connected) => {
                self.attempt = 0;
                self.common.metrics.lane_connects.inc();
                if std::mem::replace(&mut self.was_connected, true) {
                    self.common.metrics.lane_reconnects.inc();
                }
                self.common.metrics.lanes_connected.inc();
                tracing::debug!(db = self.group.db, resp = self.group.proto.number(), "a lane is connected");
                Some(Connection::new(connected.stream, self.queue.clone(), self.common.clone(), None))
            }
            Err(error) => {
                self.common.metrics.lane_failures.inc();
                self.attempt += 1;
                if self.attempt == 1 || self.attempt.is_multiple_of(20) {
                    tracing::warn!(%error, attempt = self.attempt, "a lane cannot be connected");
                }
                // An answer ("wrong password") will not change while a client waits; silence may.
                let patience = match error {
                    ConnectError::Unreachable(..) => self.common.settings.queue_timeout,
                    ConnectError::Absent(_) | ConnectError::Refused(_) | ConnectError::Busy(_) => Duration::ZERO,
                };
                self.wait(&error.to_string(), patience).await;
                None
            }
        }
    }

    /// The pause before the next attempt: min(attempt x 100, 3000) ms with jitter (hazard 19).
    fn backoff(&self) -> Duration {
        let most = (u64::from(self.attempt) * 100).min(3000);
        Duration::from_millis(fastrand::u64(most / 2..=most))
    }

    async fn wait(&self, error: &str, patience: Duration) {
        let until = Instant::now() + self.backoff();
        loop {
            let next = self.answer_expired(error, patience);
            let now = Instant::now();
            if now >= until {
                return;
            }
            // Runs that arrive during the pause are looked at every 50 ms.
            let look = next.map_or(until, |next| next.min(until)).min(now + Duration::from_millis(50));
            tokio::time::sleep_until(look.into()).await;
        }
    }

    /// Answers what has waited longer than `patience`; the moment at which the next will have.
    fn answer_expired(&self, error: &str, patience: Duration) -> Option<Instant> {
        let queue = self.queue.upgrade()?;
        loop {
            let mut waiting = queue.borrow_mut();
            let front = waiting.front()?;
            if front.since.elapsed() < patience {
                return Some(front.since + patience);
            }
            let flight = waiting.pop()?;
            drop(waiting);
            flight.fail(error);
        }
    }

    /// The connection is gone: what may be sent again goes to the front of the queue.
    fn lost(&mut self, connection: Connection, why: &io::Error) {
        let Some(queue) = self.queue.upgrade() else { return };
        self.attempt += 1;
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
