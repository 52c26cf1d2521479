//! A lane's connection: writes what is queued and reads what comes back.
//!
//! Invariant: the writer yields once before it takes from the queue, so that what many clients send becomes one write.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep_until};

use super::account::Account;
use super::arrivals::Arrivals;
use super::flight::Flight;
use super::inbox::Inbox;
use super::queue::{Progress, Queue};
use crate::telemetry::metrics::ServerMetric;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::Connected;
use crate::upstream::endpoint::stream::Stream;

/// A connection that was open for so long was no failed attempt.
const SOUND: Duration = Duration::from_secs(1);
/// Bytes gathered for one write.
const WRITE_AT_MOST: usize = 256 * 1024;
/// Steps after which the other tasks of the thread have their turn: while long replies come there is always another.
const STEPS: usize = 8;

pub(crate) struct Connection {
    stream: Stream,
    pub(super) queue: Weak<RefCell<Queue>>,
    pub(super) endpoint: Arc<Endpoint>,
    /// What is shown of the server it leads to.
    pub(super) server: ServerMetric,
    pub(super) arrivals: Arrivals,
    out: BytesMut,
    /// Bytes ever put into `out`, and ever written.
    given: u64,
    written: u64,
    has_yielded: bool,
    pub(super) heard: Instant,
    pub(super) pinged: bool,
    since: Instant,
    /// Since when the front request is the front one.
    front_since: Instant,
    /// The number of the location that it leads to.
    pub(super) generation: u64,
    /// What waits is not taken: it is for the next connection, or for the end of a pause.
    pub(super) is_held: bool,
    /// Fires when a reply may be late for which nobody else has a clock.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Why a connection is not driven any more.
pub(crate) enum Ended {
    Lost(io::Error),
    /// Its client gave it back, and it is clean.
    Retired,
    /// Nothing is under way, and nothing that waits may begin here.
    Quiet,
}

impl Connection {
    pub(crate) fn new(
        connected: Connected,
        queue: Weak<RefCell<Queue>>,
        endpoint: Arc<Endpoint>,
        inbox: Option<Inbox>,
    ) -> Self {
        let Connected { stream, generation, is_incomplete, .. } = connected;
        let mut arrivals = Arrivals::new(inbox);
        let server = endpoint.server_at(generation);
        // One that was not greeted as it should be is opened again as soon as that may be.
        arrivals.is_unready = is_incomplete;
        Self {
            stream,
            queue,
            endpoint,
            server,
            arrivals,
            out: BytesMut::new(),
            given: 0,
            written: 0,
            has_yielded: false,
            heard: Instant::now(),
            pinged: false,
            since: Instant::now(),
            front_since: Instant::now(),
            generation,
            is_held: false,
            alarm: None,
        }
    }

    /// The same, of a lane that its `owner` has for itself, if somebody has.
    pub(crate) fn of(mut self, owner: Option<Rc<Account>>) -> Self {
        if let Some(owner) = owner {
            self.arrivals.belong_to(owner);
        }
        self
    }

    /// The flights without replies, each with the number of bytes that were written in all.
    pub(crate) fn into_flights(self) -> impl Iterator<Item = (Flight, u64)> {
        let written = self.written;
        self.arrivals.flights.into_iter().map(move |flight| (flight, written))
    }

    /// What it did ended in a panic: what of its reply the first client has been given is not known, and it is cut off.
    pub(crate) fn met_bug(&mut self) -> Ended {
        if let Some(front) = self.arrivals.flights.front_mut() {
            front.is_partial = true;
        }
        Ended::Lost(io::Error::other("a bug, which is in the log"))
    }

    /// The open connection, when it is retired.
    pub(crate) fn into_connected(self, id: Option<i64>) -> Connected {
        let Self { stream, generation, .. } = self;
        Connected { stream, id, generation, is_incomplete: false, may_redirect: false }
    }

    /// It was open for so long that its loss is no reason to wait before the next attempt.
    pub(super) fn was_sound(&self) -> bool {
        self.since.elapsed() >= SOUND
    }

    /// True when its client has lately not taken what came.
    pub(crate) const fn was_slow(&self) -> bool {
        self.arrivals.was_slow()
    }

    /// Batches that wait for replies.
    pub(super) fn in_flight(&self) -> usize {
        self.arrivals.flights.len()
    }

    /// Its server is not the right one any more; a young connection waits, so that a wrong server meets no storm of
    /// them. A client's own connection stays, with what the server keeps there for it.
    pub(super) fn is_unready(&self) -> bool {
        self.arrivals.is_unready && self.arrivals.inbox.is_none() && self.was_sound()
    }

    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            match self.poll_read(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    /// Works until the connection ends. Safe to drop and call again.
    pub(crate) async fn drive_unsolicited(&mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn give(&mut self, mut flight: Flight) {
        flight.offset = self.given;
        flight.goes_to(|| self.endpoint.place());
        flight.write_to(&mut self.out);
        self.given = self.written + self.out.len() as u64;
        flight.answer_lost();
        flight.drop_silent();
        if flight.is_done() {
            return flight.finish();
        }
        if self.arrivals.flights.is_empty() {
            self.front_since = flight.since.max(self.since);
        }
        self.arrivals.await_replies(flight);
    }

    /// What clients that choose a lane see of it.
    fn progress(&self) -> Progress {
        if self.arrivals.flights.is_empty() { Progress::Idle } else { Progress::Since(self.front_since) }
    }

    /// Publishes that, after a reply has ended.
    fn tell_progress(&mut self) {
        if std::mem::take(&mut self.arrivals.has_moved_on) {
            self.front_since = self.heard;
            if let Some(queue) = self.queue.upgrade() {
                queue.borrow_mut().progress = self.progress();
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..STEPS {
            match self.poll_step(cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(ended))) => return Poll::Ready(ended),
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// `Ready` when something moved and there may be more.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Ended>>> {
        let took = self.poll_queue(cx)?;
        let wrote = self.poll_write(cx)?;
        let read = self.poll_read(cx)?;
        if took || wrote || read {
            return Poll::Ready(Ok(None));
        }
        match () {
            () if self.poll_late(cx) => Poll::Ready(Err(late())),
            () if self.is_retired() => Poll::Ready(Ok(Some(Ended::Retired))),
            () if self.is_held && self.is_idle() => Poll::Ready(Ok(Some(Ended::Quiet))),
            () => Poll::Pending,
        }
    }

    /// When the front flight's reply will be late, if it has a deadline.
    fn due(&self) -> Option<Instant> {
        let patience = self.endpoint.settings.command_timeout;
        let front = self.arrivals.flights.front().filter(|front| front.has_deadline() && !patience.is_zero())?;
        Some(front.since.max(self.heard) + patience)
    }

    /// True when the upstream is late with a reply, and not the client with taking it.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(due) = self.due() {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if alarm.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.alarm = None;
            match due <= Instant::now() {
                true if self.arrivals.poll_room(cx) => {
                    tracing::warn!("a pinned connection gave no reply within upstream.command_timeout");
                    return true;
                }
                true => self.heard = Instant::now(),
                false => {}
            }
        }
        false
    }

    /// Nothing is on its way in either direction.
    fn is_idle(&self) -> bool {
        self.out.is_empty() && self.arrivals.is_clean()
    }

    /// Its client gave it back, and nothing is on its way in either direction.
    fn is_retired(&self) -> bool {
        let retired = self.arrivals.inbox.as_ref().is_some_and(|inbox| inbox.with(|state| state.retired));
        retired && self.is_idle()
    }

    /// More may be sent now.
    fn has_room(&self) -> bool {
        self.out.len() < WRITE_AT_MOST && !self.arrivals.is_full()
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(queue) = self.queue.upgrade() else {
            let left = || io::Error::new(io::ErrorKind::ConnectionAborted, "nobody needs it any more");
            return if self.is_retired() { Ok(false) } else { Err(left()) };
        };
        let mut queue = queue.borrow_mut();
        if self.is_held || queue.poll_empty(cx) || !self.has_room() {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Ok(false);
        }
        self.has_yielded = false;
        while self.has_room() {
            match queue.pop() {
                Some(flight) if flight.is_moot() => flight.finish(),
                Some(flight) => self.give(flight),
                None => break,
            }
        }
        queue.progress = self.progress();
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

    /// Counts what has been answered, but for a client's own connection: what goes there may wait for others.
    fn note_seconds(&mut self) {
        let (heard, is_lane) = (self.heard, self.arrivals.inbox.is_none());
        for since in self.arrivals.ended.drain(..).filter(|_| is_lane) {
            self.server.seconds.observe((heard - since).as_micros() as u64, 1);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let came = self.arrivals.poll_read(&mut self.stream, cx)?;
        if came {
            self.heard = Instant::now();
            self.pinged = false;
            self.note_seconds();
            self.tell_progress();
            self.is_held |= self.is_unready();
        }
        Ok(came)
    }
}

pub(super) fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no reply within upstream.command_timeout")
}
