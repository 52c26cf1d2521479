//! A lane: one persistent connection that all clients of a group share, and the task that drives it.
//!
//! Invariants:
//! - replies come in the order in which requests were written, so the front flight owns the next reply;
//! - the writer yields once before it takes from the queue, so that what many clients send becomes one write;
//! - the queue is bounded in bytes and in time while there is no connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::connect::{ConnectError, connect};
use super::flight::{Flight, Run};
use super::stream::Stream;
use super::ticket::{Ticket, ticket};
use super::{Common, Group};
use crate::resp::reply::{Frame, ReplyScanner};
use crate::telemetry::Metrics;

#[derive(Debug, Default)]
struct Queue {
    flights: VecDeque<Flight>,
    bytes: usize,
    waker: Option<Waker>,
}

/// A handle on a lane. Cloning it is cheap; the lane's task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Lane {
    queue: Rc<RefCell<Queue>>,
    most_bytes: usize,
}

impl Lane {
    /// Starts the lane's task on this thread. It connects when the first run arrives.
    pub(super) fn start(common: Arc<Common>, group: Group) -> Self {
        let lane = Self { queue: Rc::default(), most_bytes: common.settings.queue_bytes.0 };
        let driver = Driver { common, group, queue: Rc::downgrade(&lane.queue), attempt: 0 };
        tokio::task::spawn_local(driver.run());
        lane
    }

    /// Queues a run; its replies arrive at the ticket.
    #[must_use]
    pub fn submit(&self, run: Run) -> Ticket {
        let (ticket, delivery) = ticket();
        let flight = Flight::new(run, delivery);
        let mut queue = self.queue.borrow_mut();
        if queue.bytes > 0 && queue.bytes + flight.len() > self.most_bytes {
            drop(queue);
            flight.fail(
                "ERR hearthside: too much waits for the upstream (upstream.queue_bytes); the command was not sent",
            );
            return ticket;
        }
        queue.bytes += flight.len();
        queue.flights.push_back(flight);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        ticket
    }
}

/// The lane's task.
struct Driver {
    common: Arc<Common>,
    group: Group,
    queue: std::rc::Weak<RefCell<Queue>>,
    attempt: u32,
}

impl Driver {
    async fn run(mut self) {
        while self.work().await {
            let Some(mut connection) = self.connected().await else { continue };
            let why = connection.drive().await;
            self.lost(connection, &why);
        }
    }

    /// Waits for something to send; false when no client can come any more.
    async fn work(&self) -> bool {
        std::future::poll_fn(|cx| match self.queue.upgrade() {
            None => Poll::Ready(false),
            Some(queue) => {
                let mut queue = queue.borrow_mut();
                queue.waker = Some(cx.waker().clone());
                if queue.flights.is_empty() { Poll::Pending } else { Poll::Ready(true) }
            }
        })
        .await
    }

    /// One attempt to connect; on failure waits as long as the backoff says, while what waits too long is answered.
    async fn connected(&mut self) -> Option<Connection> {
        match connect(&self.common, self.group).await {
            Ok(stream) => {
                self.attempt = 0;
                self.common.metrics.lane_connects.inc();
                self.common.metrics.lanes_connected.inc();
                tracing::debug!(db = self.group.db, resp = self.group.proto.number(), "a lane is connected");
                Some(Connection::new(stream, self.queue.clone(), self.common.clone()))
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
                    ConnectError::Absent(_) | ConnectError::Refused(_) => Duration::ZERO,
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
            let mut queue = queue.borrow_mut();
            let front = queue.flights.front()?;
            if front.since.elapsed() < patience {
                return Some(front.since + patience);
            }
            let flight = queue.flights.pop_front()?;
            queue.bytes -= flight.len();
            drop(queue);
            flight.fail(error);
        }
    }

    /// The connection is gone: what may be sent again goes to the front of the queue.
    fn lost(&mut self, connection: Connection, why: &io::Error) {
        self.attempt += 1;
        self.common.metrics.lane_failures.inc();
        let flights = connection.flights.len();
        tracing::warn!(error = %why, in_flight = flights, "a lane lost its connection");
        let Some(queue) = self.queue.upgrade() else { return };
        let salvaged: Vec<Flight> =
            connection.into_flights().filter_map(|(flight, written)| flight.salvage(written)).collect();
        let mut queue = queue.borrow_mut();
        for flight in salvaged.into_iter().rev() {
            queue.bytes += flight.len();
            queue.flights.push_front(flight);
        }
    }
}

/// Bytes gathered for one write.
const WRITE_AT_MOST: usize = 256 * 1024;
/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// An unfinished reply longer than this is handed on in pieces.
const HOLD: usize = 64 * 1024;

struct Connection {
    stream: Stream,
    queue: std::rc::Weak<RefCell<Queue>>,
    common: Arc<Common>,
    flights: VecDeque<Flight>,
    out: BytesMut,
    /// Bytes ever put into `out`, and ever written.
    given: u64,
    written: u64,
    has_yielded: bool,
    incoming: BytesMut,
    /// Bytes of `incoming` the scanner has seen, and where the frame it is in begins.
    scanned: usize,
    frame: usize,
    scanner: ReplyScanner,
    heard: Instant,
    pinged: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let metrics: &Metrics = &self.common.metrics;
        metrics.lanes_connected.dec();
    }
}

impl Connection {
    fn new(stream: Stream, queue: std::rc::Weak<RefCell<Queue>>, common: Arc<Common>) -> Self {
        Self {
            stream,
            queue,
            common,
            flights: VecDeque::new(),
            out: BytesMut::new(),
            given: 0,
            written: 0,
            has_yielded: false,
            incoming: BytesMut::new(),
            scanned: 0,
            frame: 0,
            scanner: ReplyScanner::default(),
            heard: Instant::now(),
            pinged: false,
        }
    }

    /// The flights without replies, each with the number of bytes that were written in all.
    fn into_flights(mut self) -> impl Iterator<Item = (Flight, u64)> {
        let written = self.written;
        std::mem::take(&mut self.flights).into_iter().map(move |flight| (flight, written))
    }

    /// Runs until the connection ends.
    async fn drive(&mut self) -> io::Error {
        let mut ticker = tokio::time::interval(Duration::from_secs(1).min(self.common.settings.ping_interval));
        loop {
            tokio::select! {
                biased;
                error = std::future::poll_fn(|cx| self.poll(cx)) => return error,
                _ = ticker.tick() => if let Err(error) = self.check_health() { return error },
            }
        }
    }

    /// Asks a silent upstream with PING, and gives it up when it stays silent (half-open connections).
    fn check_health(&mut self) -> io::Result<()> {
        let settings = &self.common.settings;
        let silent = self.heard.elapsed();
        if silent > settings.ping_interval + settings.ping_timeout {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply within upstream.ping_timeout"));
        }
        if silent > settings.ping_interval && !self.pinged {
            self.pinged = true;
            let (_, delivery) = ticket();
            let ping = bytes::Bytes::from_static(b"*1\r\n$4\r\nPING\r\n");
            self.give(Flight::new(Run::one(ping, false), delivery));
        }
        Ok(())
    }

    fn give(&mut self, mut flight: Flight) {
        flight.offset = self.given;
        flight.write_to(&mut self.out);
        self.given = self.written + self.out.len() as u64;
        flight.answer_lost();
        self.flights.push_back(flight);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            match self.poll_step(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// `Ready` when something moved and there may be more.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let took = self.poll_queue(cx)?;
        let wrote = self.poll_write(cx)?;
        let read = self.poll_read(cx)?;
        if took || wrote || read { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(queue) = self.queue.upgrade() else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the worker is shutting down"));
        };
        let mut queue = queue.borrow_mut();
        queue.waker = Some(cx.waker().clone());
        if queue.flights.is_empty() || self.out.len() >= WRITE_AT_MOST {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Ok(false);
        }
        self.has_yielded = false;
        while self.out.len() < WRITE_AT_MOST {
            let Some(flight) = queue.flights.pop_front() else { break };
            queue.bytes -= flight.len();
            self.give(flight);
        }
        Ok(true)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.out.is_empty() {
            return Ok(false);
        }
        match Pin::new(&mut self.stream).poll_write(cx, &self.out)? {
            Poll::Pending => Ok(false),
            Poll::Ready(0) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(n) => {
                self.out.advance(n);
                self.written += n as u64;
                // TLS keeps what it cannot send; a plain socket has nothing to flush.
                let _ = Pin::new(&mut self.stream).poll_flush(cx)?;
                Ok(true)
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.incoming.reserve(READ);
        match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming)? {
            Poll::Pending => Ok(false),
            Poll::Ready(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection")),
            Poll::Ready(_) => {
                self.heard = Instant::now();
                self.pinged = false;
                self.deliver()?;
                Ok(true)
            }
        }
    }

    /// Gives what was read to the flights it belongs to.
    fn deliver(&mut self) -> io::Result<()> {
        loop {
            let step = self.scanner.scan(&self.incoming[self.scanned..]).map_err(io::Error::other)?;
            self.scanned += step.used;
            match step.end {
                None => break,
                Some(Frame::Push) => self.drop_push(),
                Some(Frame::Reply) => self.reply_ended()?,
            }
        }
        let unfinished = self.scanned - self.frame;
        if unfinished > HOLD {
            self.frame = self.scanned;
        }
        self.hand_over();
        if unfinished > HOLD
            && let Some(flight) = self.flights.front_mut()
        {
            flight.is_partial = true;
        }
        Ok(())
    }

    /// Delivers the finished part of `incoming` to the front flight.
    fn hand_over(&mut self) {
        if self.frame == 0 {
            return;
        }
        let chunk = self.incoming.split_to(self.frame).freeze();
        self.scanned -= self.frame;
        self.frame = 0;
        if let Some(flight) = self.flights.front() {
            flight.deliver(chunk);
        }
    }

    fn reply_ended(&mut self) -> io::Result<()> {
        self.frame = self.scanned;
        let Some(flight) = self.flights.front_mut() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply came that nothing had asked for"));
        };
        let lost_next = flight.reply_ended();
        if flight.is_done() || lost_next {
            self.hand_over();
        }
        if let Some(flight) = self.flights.front_mut() {
            flight.answer_lost();
        }
        if self.flights.front().is_some_and(Flight::is_done)
            && let Some(flight) = self.flights.pop_front()
        {
            flight.finish();
        }
        Ok(())
    }

    /// Nobody on a lane asked for push messages.
    fn drop_push(&mut self) {
        let length = self.scanned - self.frame;
        self.hand_over();
        self.incoming.advance(length);
        self.scanned -= length;
        tracing::debug!("a push message on a lane was dropped");
    }
}
