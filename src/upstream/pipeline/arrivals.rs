//! What a lane's connection receives, and to whom it goes.
//!
//! Invariants:
//! - replies come in the order in which requests were written, so the front flight owns the next reply;
//! - a push message is handed over where it came, between the replies; when no reply is awaited it goes to the inbox
//!   of a client's own connection; on a shared lane it belongs to nobody and is dropped.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use super::account::{Account, Kept};
use super::batch::Expect;
use super::flight::Flight;
use super::inbox::Inbox;
use super::lane_ticket::Chunk;
use super::window::Window;
use crate::resp::Proto;
use crate::resp::pubsub::{self, PubSub};
use crate::resp::reply::{Frame, ReplyScanner};
use crate::telemetry::planted::is_planted_once;
use crate::upstream::endpoint::error::is_unready;
use crate::upstream::endpoint::stream::Stream;
use crate::upstream::endpoint::target::Host;

/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// An unfinished reply longer than this is passed on in pieces.
const HOLD: usize = 64 * 1024;
/// A client's own connection is not read while the client has not taken so many bytes.
const ENOUGH: usize = 256 * 1024;
/// A connection that ends within so many bytes of one at which its client had not taken what came before was given up
/// by an upstream that kept too much for it: that is what the kernels on both sides may still have had.
const BEHIND: usize = 16 << 20;
/// A reply longer than this on a shared lane is more than others should wait behind.
const BULKY: usize = 1 << 20;

thread_local! {
    /// Room for what comes next over the connections of single clients.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// To whom a frame belongs.
enum Part {
    Reply,
    /// To the front unit, as a confirmation; so many topics of its kind are still subscribed.
    Confirmation(usize),
    OutOfBand,
}

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) flights: VecDeque<Flight>,
    /// When those began that have ended since this was last looked at.
    pub(super) ended: Vec<Instant>,
    window: Window,
    /// For a client's own connection.
    pub(super) inbox: Option<Inbox>,
    incoming: BytesMut,
    /// The same, as its client's account has it.
    kept: Option<Kept>,
    /// Bytes that have come since the client last left something untaken, if it ever did.
    since_full: Option<usize>,
    /// Bytes of `incoming` the scanner has seen, and where the frame it is in begins.
    scanned: usize,
    frame: usize,
    scanner: ReplyScanner,
    /// Bytes of the unfinished reply that have been passed on.
    handed_on: usize,
    /// A reply has ended since this was last looked at.
    pub(super) has_moved_on: bool,
    /// The account of the client that has the lane for itself; it has no inbox.
    owner: Option<Rc<Account>>,
    /// One reply said that this server is not the right one any more.
    pub(super) is_unready: bool,
    /// One reply said that the server is a replica, and where its primary is.
    pub(super) redirected: Option<Host>,
}

/// The primary that this error names: `REDIRECT host:port`.
fn redirection(error: &[u8]) -> Option<Host> {
    let place = std::str::from_utf8(error.strip_prefix(b"REDIRECT ")?.trim_ascii_end()).ok()?;
    let (name, port) = place.rsplit_once(':')?;
    Some(Host { name: name.to_owned(), port: port.parse().ok()? })
}

impl Arrivals {
    /// With an inbox, those of a client's own connection.
    pub(super) fn new(inbox: Option<Inbox>) -> Self {
        let kept = inbox.as_ref().map(|inbox| Kept::new(inbox.account()));
        Self { inbox, kept, ..Self::default() }
    }

    /// Those of a lane that one client has for itself.
    pub(super) fn belong_to(&mut self, owner: Rc<Account>) {
        self.kept = Some(Kept::new(owner.clone()));
        self.owner = Some(owner);
    }

    /// True when what is under way may be ended by the server, to go on elsewhere. What was not sent is not under way.
    pub(super) fn is_waited_on(&self) -> bool {
        !self.flights.is_empty() && self.inbox.as_ref().is_some_and(|inbox| inbox.with(|state| state.waits))
    }

    /// True between frames, with nothing awaited.
    pub(super) fn is_clean(&self) -> bool {
        self.flights.is_empty() && self.incoming.is_empty() && !self.scanner.is_inside()
    }

    /// A flight has been sent.
    pub(super) fn await_replies(&mut self, mut flight: Flight) {
        self.window.open(flight.send());
        self.flights.push_back(flight);
    }

    /// So much is awaited that nothing more should be sent now, unless the connection serves one client alone.
    pub(super) const fn is_full(&self) -> bool {
        self.inbox.is_none() && self.owner.is_none() && self.window.is_full()
    }

    /// Reads once; true when something came.
    pub(super) fn poll_read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> io::Result<bool> {
        if !self.poll_room(cx) {
            self.since_full = Some(0);
            return Ok(false);
        }
        self.take_room();
        match poll_read_buf(Pin::new(stream), cx, &mut self.incoming)? {
            Poll::Pending => {
                self.give_room_back();
                Ok(false)
            }
            Poll::Ready(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection")),
            Poll::Ready(read) => {
                self.since_full = self.since_full.map(|since| since + read).filter(|since| *since < BEHIND);
                let delivered = self.deliver();
                if let Some(kept) = &mut self.kept {
                    kept.are(self.incoming.len());
                }
                delivered.map(|()| true)
            }
        }
    }

    /// Room for one read: what another connection of the thread has given back, if this one has none.
    fn take_room(&mut self) {
        if self.incoming.capacity() == 0 {
            self.incoming = SPARE.take();
        }
        self.incoming.reserve(READ);
    }

    /// A client's own connection to which nothing comes keeps no room for it: there may be one for each client. Those
    /// that all share are few and busy.
    fn give_room_back(&mut self) {
        if self.kept.is_some() && self.incoming.is_empty() {
            SPARE.set(std::mem::take(&mut self.incoming));
        }
    }

    /// True when the connection serves one client, which has lately not taken what came.
    pub(super) const fn was_slow(&self) -> bool {
        self.since_full.is_some()
    }

    /// A client that does not read slows down its own connection, and nobody else's.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> bool {
        self.owner().is_none_or(|account| account.poll_room(ENOUGH, cx))
    }

    /// True while the connection is not read, because its client has not taken what came.
    pub(super) fn is_left_unread(&self) -> bool {
        self.owner().is_some_and(|account| !account.is_up_with(ENOUGH))
    }

    fn owner(&self) -> Option<Rc<Account>> {
        self.owner.clone().or_else(|| self.inbox.as_ref().map(Inbox::account))
    }

    /// Delivers what was read.
    fn deliver(&mut self) -> io::Result<()> {
        if let Some(inbox) = self.inbox.as_ref().filter(|inbox| inbox.with(|state| state.undelimited)) {
            (self.scanned, self.frame) = (0, 0);
            inbox.push(self.incoming.split().freeze());
            return Ok(());
        }
        loop {
            let step = match self.scanner.scan(&self.incoming[self.scanned..]) {
                Ok(step) => step,
                Err(fault) => {
                    // The replies before it are counted already: they must not be lost with the connection.
                    self.hand_over();
                    return Err(io::Error::other(fault));
                }
            };
            self.scanned += step.used;
            let Some(frame) = step.end else { break };
            match self.part(frame) {
                Part::Reply => self.reply_ended()?,
                Part::Confirmation(remain) => self.confirmed(remain),
                Part::OutOfBand => self.out_of_band(),
            }
        }
        self.hand_on_unfinished();
        Ok(())
    }

    fn part(&self, frame: Frame) -> Part {
        let Some(inbox) = &self.inbox else {
            return if frame == Frame::Push { Part::OutOfBand } else { Part::Reply };
        };
        if inbox.with(|state| state.raw) {
            return Part::OutOfBand;
        }
        if frame == Frame::Reply && !self.may_be_pubsub(inbox) {
            return Part::Reply;
        }
        match pubsub::read(&self.incoming[self.frame..self.scanned]) {
            Some(PubSub::Confirmation(kind, name, on)) => {
                let remain = inbox.with(|state| {
                    state.confirm(kind, name, on);
                    state.subscriptions.count(kind)
                });
                if self.awaits_confirmation() { Part::Confirmation(remain) } else { Part::OutOfBand }
            }
            None if frame == Frame::Reply => Part::Reply,
            _ => Part::OutOfBand,
        }
    }

    /// In RESP2 messages look like replies, but only to a client that subscribes.
    fn may_be_pubsub(&self, inbox: &Inbox) -> bool {
        self.awaits_confirmation() || inbox.with(|state| state.proto == Proto::Resp2 && !state.subscriptions.is_empty())
    }

    fn awaits_confirmation(&self) -> bool {
        let expects = self.flights.front().and_then(Flight::expects);
        matches!(expects, Some(Expect::Confirmations(_) | Expect::AllOf(_)))
    }

    fn reply_ended(&mut self) -> io::Result<()> {
        let bug = if self.inbox.is_some() { "panic-in-pinned-reply" } else { "panic-in-lane-reply" };
        assert!(!is_planted_once(bug), "a planted bug");
        // The beginning of it has been passed on already.
        if let (0, Some(b'-')) = (self.handed_on, self.incoming.get(self.frame)) {
            self.redirected = redirection(&self.incoming[self.frame + 1..self.scanned]);
            if self.redirected.is_some() && self.inbox.is_none() {
                // The replies before it are their clients'; what it was sent for is sent again.
                self.hand_over();
                return Err(io::Error::other("the server is a replica"));
            }
            self.is_unready |= is_unready(&self.incoming[self.frame + 1..self.scanned]);
        }
        if let Some(inbox) = &self.inbox {
            let agreed = self.incoming.get(self.frame) == Some(&b'+');
            inbox.with(|state| state.raw |= std::mem::take(&mut state.raw_next) && agreed);
        }
        let length = std::mem::take(&mut self.handed_on) + self.scanned - self.frame;
        self.frame = self.scanned;
        self.has_moved_on = true;
        let Some(flight) = self.flights.front_mut() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply came that nothing had asked for"));
        };
        flight.saw(length);
        let lost_next = flight.reply_ended();
        if !flight.is_done() && !lost_next {
            return Ok(());
        }
        self.hand_over();
        if let Some(flight) = self.flights.front_mut() {
            flight.answer_lost();
        }
        self.finish_front();
        Ok(())
    }

    fn confirmed(&mut self, remain: usize) {
        self.out_of_band();
        if let Some(flight) = self.flights.front_mut() {
            flight.confirmed(remain);
        }
        self.finish_front();
    }

    fn finish_front(&mut self) {
        if self.flights.front().is_some_and(Flight::is_done)
            && let Some(flight) = self.flights.pop_front()
        {
            self.window.close(flight.expected);
            self.ended.push(flight.since);
            flight.finish();
        }
    }

    /// Delivers the finished part of `incoming` to the front flight.
    fn hand_over(&mut self) {
        if self.frame > 0 {
            let chunk = self.incoming.split_to(self.frame).freeze();
            self.scanned -= self.frame;
            self.frame = 0;
            self.give(Chunk::Reply(chunk));
        }
    }

    /// A long reply is not gathered; what may turn out to be no reply is.
    fn hand_on_unfinished(&mut self) {
        let unfinished = self.scanned - self.frame;
        let is_reply =
            !self.scanner.is_push() && self.inbox.as_ref().is_none_or(|i| !i.with(|s| s.raw) && !self.may_be_pubsub(i));
        if unfinished <= HOLD || !is_reply {
            return self.hand_over();
        }
        self.frame = self.scanned;
        self.hand_over();
        self.handed_on += unfinished;
        if let Some(flight) = self.flights.front_mut() {
            flight.is_partial = true;
            flight.sees(self.handed_on, BULKY);
        }
    }

    fn give(&mut self, chunk: Chunk) {
        let Some(flight) = self.flights.front() else { return };
        // Nobody reads the answer; what is pushed beside it is the client's.
        if let (Some(inbox), false) = (&self.inbox, flight.is_wanted()) {
            if let Chunk::Push(frame) = chunk {
                inbox.push(frame);
            }
            return;
        }
        // Messages that came before the flight's first reply also reach the client before it.
        while let Some(frame) = self.inbox.as_ref().and_then(Inbox::take) {
            flight.deliver(Chunk::Push(frame));
        }
        flight.deliver(chunk);
    }

    /// Delivers the frame that has just ended, which is no reply.
    fn out_of_band(&mut self) {
        let length = self.scanned - self.frame;
        self.hand_over();
        let mut frame: Bytes = self.incoming.split_to(length).freeze();
        self.scanned -= length;
        if let Some(inbox) = &self.inbox {
            if inbox.is_own_line(&frame) {
                return;
            }
            frame = inbox.with_our_id(frame);
        }
        match &self.inbox {
            Some(inbox) if self.flights.is_empty() || inbox.with(|state| state.raw) => inbox.push(frame),
            None if self.flights.is_empty() => tracing::debug!("a push message that nobody asked for was dropped"),
            _ => self.give(Chunk::Push(frame)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::Bytes;

    use super::Arrivals;
    use crate::upstream::pipeline::batch::{Asked, Batch, Expect, To};
    use crate::upstream::pipeline::flight::Flight;
    use crate::upstream::pipeline::lane_ticket::ticket;
    use crate::upstream::pipeline::ticket::Ticket;

    #[tokio::test]
    async fn replies_before_garbage_reach_their_client() {
        let (ticket, delivery) = ticket(Rc::default());
        let asked = [4, 8].map(|end| Asked { end, resendable: false, expect: Expect::Replies(1), to: To::Home });
        let mut arrivals = Arrivals::default();
        let batch = Batch { bytes: Bytes::from_static(b"SET1SET2"), asked: asked.into(), ..Batch::default() };
        arrivals.await_replies(Flight::new(batch, delivery));
        arrivals.incoming.extend_from_slice(b"+one\r\n\x00garbage\r\n");
        assert!(arrivals.deliver().is_err());
        let flight = arrivals.flights.pop_front().expect("one reply is missing");
        assert!(flight.salvage(8).is_none());
        let told = Ticket::Lane(ticket).whole().await.expect("whole");
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.starts_with("+one\r\n-ERR hearthside: the upstream") && told.matches("\r\n").count() == 2,
            "{told}"
        );
    }
}
