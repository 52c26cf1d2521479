//! A lane's task: keeps the lane's connection, and answers what waits too long for one.
//!
//! Invariants:
//! - what waits while there is no connection is bounded in bytes and in time;
//! - where it ends in a panic it has lost its connection, and goes on.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::account::Account;
use super::connection::{Connection, Ended};
use super::flight::Flight;
use super::queue::{Progress, Queue};
use crate::telemetry::metrics::PinnedMetrics;
use crate::telemetry::{LastingPart, caught};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::{Connected, connect};
use crate::upstream::endpoint::error::ConnectError;
use crate::upstream::endpoint::group::{Group, Login};

/// How often the requests that wait without a connection are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The lane's task.
pub(super) struct Driver {
    endpoint: Arc<Endpoint>,
    group: Group,
    queue: Weak<RefCell<Queue>>,
    /// Attempts in a row whose connection the upstream refused, or did not keep.
    attempt: u32,
    /// It has been connected before.
    was_connected: bool,
    /// For a lane that one client has for itself.
    lease: Option<Lease>,
}

/// A lane for one client alone, which counts as one of the connections that are lent.
#[derive(Debug)]
pub(super) struct Lease {
    metrics: Arc<PinnedMetrics>,
    /// Of its client.
    account: Rc<Account>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) fn new(endpoint: &Endpoint, account: Rc<Account>, permit: OwnedSemaphorePermit) -> Self {
        endpoint.metrics.pinned.open.inc();
        Self { metrics: endpoint.metrics.pinned.clone(), account, _permit: permit }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.metrics.open.dec();
    }
}

impl Driver {
    /// The task of the lane with this queue; of one that a client has for itself, with the `lease` of that.
    pub(super) fn new(endpoint: Arc<Endpoint>, group: Group, queue: &Rc<RefCell<Queue>>, lease: Option<Lease>) -> Self {
        Self { endpoint, group, queue: Rc::downgrade(queue), attempt: 0, was_connected: false, lease }
    }

    /// Runs on this thread until the last handle on the lane is gone. Without a connection it connects when the first
    /// batch arrives.
    pub(super) fn start(self, connected: Option<Connected>) {
        tokio::task::spawn_local(self.run(connected));
    }

    async fn run(mut self, connected: Option<Connected>) {
        let panics = self.endpoint.panics.clone();
        let mut open = connected.map(|connected| self.begin(connected));
        while caught(LastingPart::UpstreamConnections, &panics, self.serve(&mut open)).await.is_none() {
            match open.take() {
                Some(mut connection) => {
                    let ended = connection.met_bug();
                    self.ended(connection, ended);
                }
                None => self.attempt += 1,
            }
            self.pause(None).await;
        }
    }

    /// Serves what comes over the `open` connection, or the next one, until no client can come any more.
    async fn serve(&mut self, open: &mut Option<Connection>) {
        let mut is_doubtful = false;
        while open.is_some() || std::mem::take(&mut is_doubtful) || self.work().await {
            if open.is_none() {
                *open = self.connected().await;
            }
            let Some(connection) = open else { continue };
            self.tell(Progress::Idle);
            let ended = connection.drive().await;
            let is_lost = matches!(ended, Ended::Lost(_));
            if let Some(connection) = open.take() {
                self.ended(connection, ended);
            }
            if is_lost {
                // Perhaps because the upstream has deleted the user: it is asked at once, and not when the next
                // request comes.
                is_doubtful = matches!(self.group.login, Login::Client(_)) && self.queue.strong_count() > 0;
                self.pause(None).await;
            }
        }
    }

    /// The lane has no connection any more.
    fn ended(&mut self, connection: Connection, ended: Ended) {
        self.tell(Progress::Away);
        self.endpoint.metrics.lanes.connected.dec();
        self.attempt = if connection.was_sound() { 0 } else { self.attempt + 1 };
        if let Ended::Lost(why) = ended {
            self.lost(connection, &why);
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
        let endpoint = self.endpoint.clone();
        match self.patiently(connect(&endpoint, &self.group)).await {
            Ok(connected) => Some(self.begin(connected)),
            Err(error) => {
                self.endpoint.metrics.lanes.failures.inc();
                // An answer ("wrong password") will not change while a client waits; silence may.
                if error.may_pass() {
                    self.attempt += 1;
                    self.pause(None).await;
                } else if !matches!(error, ConnectError::Unreachable(..)) {
                    self.attempt += 1;
                    let is_news = self.attempt == 1 || self.attempt.is_multiple_of(20);
                    if is_news && error != ConnectError::Retired {
                        let (server, attempt) = (self.endpoint.shown(), self.attempt);
                        tracing::warn!(server, error = error.reason(), attempt, "a lane cannot be connected");
                    }
                    self.pause(Some(&error.to_string())).await;
                }
                None
            }
        }
    }

    fn begin(&mut self, connected: Connected) -> Connection {
        if let Some(queue) = self.queue.upgrade() {
            queue.borrow_mut().leads_to_node(self.endpoint.is_several_as_one());
        }
        self.endpoint.metrics.lanes.connects.inc();
        if std::mem::replace(&mut self.was_connected, true) {
            self.endpoint.metrics.lanes.reconnects.inc();
        }
        self.endpoint.metrics.lanes.connected.inc();
        tracing::debug!(db = self.group.db, resp = self.group.proto.number(), "a lane is connected");
        let may_redirect = connected.may_redirect && self.endpoint.may_be_redirected();
        let connection = Connection::new(connected, self.queue.clone(), self.endpoint.clone(), None);
        let mut connection = connection.of(self.lease.as_ref().map(|lease| lease.account.clone()));
        if may_redirect {
            connection.ask_for_redirections();
        }
        connection
    }

    fn tell(&self, progress: Progress) {
        if let Some(queue) = self.queue.upgrade() {
            queue.borrow_mut().progress = progress;
        }
    }

    /// The pause before the next attempt of a lane that is refused or not kept; what comes meanwhile is answered with
    /// `refusal`.
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

    /// Waits for `event`, while what has waited too long for the upstream is answered: at once if it has been away for
    /// long, not at all while commands are held back on purpose.
    async fn patiently<T>(&self, event: impl Future<Output = T>) -> T {
        let (patience, circuit) = (self.endpoint.settings.queue_timeout, &self.endpoint.circuit);
        let lookout = self.endpoint.location.lookout(0);
        let is_closing = || self.endpoint.permits.is_closing();
        let is_due = |waited| match lookout.paused_until() {
            Some(_) => is_closing(),
            None => waited >= patience || circuit.is_open(),
        };
        let error = || if is_closing() { ConnectError::Closing } else { self.endpoint.unreachable() };
        self.answering(event, || error().to_string(), is_due).await
    }

    /// Waits for `event`, while what waits and `is_due` is answered with an error: as it comes, if it is due from the
    /// start.
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
        if let Some(primary) = connection.redirected() {
            self.endpoint.is_redirected(connection.generation, primary);
            let flights = connection.into_flights().filter_map(|(flight, _)| flight.redirected());
            return send_again(&queue, flights.collect());
        }
        self.endpoint.metrics.lanes.failures.inc();
        connection.server.lost.inc();
        let flights = connection.in_flight();
        let server = self.endpoint.shown();
        tracing::warn!(server, error = %why, in_flight = flights, "a lane lost its connection");
        self.endpoint.circuit.doubt();
        let salvaged: Vec<Flight> =
            connection.into_flights().filter_map(|(flight, written)| flight.salvage(written)).collect();
        send_again(&queue, salvaged);
    }
}

/// These go before whatever waits.
fn send_again(queue: &RefCell<Queue>, flights: Vec<Flight>) {
    let mut queue = queue.borrow_mut();
    for flight in flights.into_iter().rev() {
        queue.push_front(flight);
    }
}
