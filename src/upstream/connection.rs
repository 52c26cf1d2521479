//! A lane's connection: writes what is queued, reads replies, and gives each to the flight it belongs to.
//!
//! Invariants:
//! - replies come in the order in which requests were written, so the front flight owns the next reply;
//! - the writer yields once before it takes from the queue, so that what many clients send becomes one write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Weak;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::Common;
use super::flight::{Flight, Run};
use super::queue::Queue;
use super::stream::Stream;
use super::ticket::ticket;
use crate::resp::reply::{Frame, ReplyScanner};

/// Bytes gathered for one write.
const WRITE_AT_MOST: usize = 256 * 1024;
/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// An unfinished reply longer than this is handed on in pieces.
const HOLD: usize = 64 * 1024;

pub(super) struct Connection {
    stream: Stream,
    queue: Weak<RefCell<Queue>>,
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
        self.common.metrics.lanes_connected.dec();
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, queue: Weak<RefCell<Queue>>, common: Arc<Common>) -> Self {
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
    pub(super) fn into_flights(mut self) -> impl Iterator<Item = (Flight, u64)> {
        let written = self.written;
        std::mem::take(&mut self.flights).into_iter().map(move |flight| (flight, written))
    }

    /// Runs that wait for replies.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Runs until the connection ends.
    pub(super) async fn drive(&mut self) -> io::Error {
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
        if queue.poll_empty(cx) || self.out.len() >= WRITE_AT_MOST {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Ok(false);
        }
        self.has_yielded = false;
        while self.out.len() < WRITE_AT_MOST {
            let Some(flight) = queue.pop() else { break };
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
