//! The replies that are owed to one client, in order: every request puts exactly one entry here before the next one is
//! read, and bytes leave from the front only (hazard 16).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};

use super::output::Output;
use super::unsolicited::{Stopped, Unsolicited};
use crate::dispatch::{Filling, LaterReply};
use crate::resp::pieces::Pieces;
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::metrics::{ClientMetrics, Under, UnderWay};
use crate::telemetry::planted::is_planted;
use crate::telemetry::traces::TraceEnd;
use crate::transaction::{refuses, summary};
use crate::upstream::{Chunk, Ticket};

pub(super) enum Owed {
    /// Replies that are ready but must wait for what is before them.
    Ready(BytesMut),
    /// The replies to a batch, and the bytes of its requests.
    Batch(Ticket, usize, UnderWay),
    /// The same for one request, whose reply is kept in memory when it has come.
    Filling(Ticket, usize, UnderWay, Option<Box<Filling>>),
    /// The same for commands of a transaction.
    Queued(Ticket, usize, Forwarded, Option<TraceEnd>),
    /// A reply that is being made, and the bytes that this takes.
    Later(LaterReply, usize, UnderWay),
    /// A reply that is being made and will be dropped.
    Silent(LaterReply, usize, UnderWay),
}

/// What has become of the entry in front.
pub(super) enum Front {
    /// More of it may be ready.
    GoesOn,
    HasEnded,
}

/// Which of the replies to one unit of a transaction the client gets.
pub(super) enum Forwarded {
    /// Each of them.
    Each,
    /// The one of a WATCH.
    Watch,
    /// One of these.
    One(BytesMut),
    /// None of these.
    Nothing(BytesMut),
}

/// Most entries that may wait before no further request is read.
const MOST_ENTRIES: usize = 1024;

/// What the client is told of owned keys does not join more bytes than these behind a slow reply: it stays where too
/// much of it becomes one message about all keys.
const MOST_READY: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Replies {
    pub(super) owed: VecDeque<Owed>,
    /// Counts how long they take.
    pub(super) metrics: Option<Arc<ClientMetrics>>,
    /// Bytes of requests that are on their way.
    pub(super) under_way: usize,
    /// Those of them for which a reply is being made here.
    answering: usize,
    /// Bytes in what is ready and must wait, but for the last entry.
    ready: usize,
    /// Bytes that may be written now.
    pub(super) out: Output,
    /// What comes without having been asked for; it leaves when nothing is owed.
    pub(super) unsolicited: Unsolicited,
    /// A request is being answered whose reply is not among those owed yet: what the client is told of owned keys waits
    /// for it.
    pub(super) is_held: bool,
    /// What the client is told of owned keys next comes behind all that it is owed, the upstream's replies too.
    pub(super) tells_behind: bool,
    /// Something has come of the entry in front.
    pub(super) has_begun: bool,
    /// Replies are dropped (CLIENT REPLY).
    pub(super) muted: bool,
    /// Takes what is dropped.
    scratch: BytesMut,
    /// When everything is answered is to be noted.
    pub(super) is_timed: bool,
    /// When everything was answered.
    pub(super) settled: Option<Tick>,
    /// One of the replies was very long.
    pub(super) was_bulky: bool,
    /// One of a transaction's commands was answered with an error.
    pub(super) is_refused: bool,
    /// A WATCH was answered without an error.
    pub(super) has_watched: bool,
    /// What begins or ends a transaction was answered with an error: its connection may still be in one, or watch.
    pub(super) is_unclean: bool,
}

impl Replies {
    /// Where the next reply that is ready goes.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.muted {
            self.scratch.clear();
            return &mut self.scratch;
        }
        self.loud()
    }

    /// A reply that is ready and may be long.
    pub(super) fn put(&mut self, reply: BytesMut) {
        let tail = self.tail();
        if tail.is_empty() { *tail = reply } else { tail.put_slice(&reply) }
    }

    /// A reply that is ready, and very long.
    pub(super) fn put_all(&mut self, reply: Pieces) {
        match () {
            () if self.muted => {}
            () if self.owed.is_empty() => self.out.append_all(reply),
            () => self.later(Box::pin(std::future::ready(Ok(reply))), 0, Under::Nothing.since(Moment::default())),
        }
    }

    /// Where the next push message goes, which is sent even to a client that wants no replies.
    pub(super) fn loud(&mut self) -> &mut BytesMut {
        if self.owed.is_empty() {
            return self.out.tail();
        }
        if !matches!(self.owed.back(), Some(Owed::Ready(_))) {
            self.owe(Owed::Ready(BytesMut::new()));
        }
        match self.owed.back_mut() {
            Some(Owed::Ready(bytes)) => bytes,
            _ => self.out.tail(),
        }
    }

    fn owe(&mut self, owed: Owed) {
        // Where something might have been put, and nothing was.
        self.owed.pop_back_if(|last| matches!(last, Owed::Ready(bytes) if bytes.is_empty()));
        self.ready += self.last_ready();
        self.owed.push_back(owed);
    }

    /// Bytes of the last entry, if it is ready.
    fn last_ready(&self) -> usize {
        if let Some(Owed::Ready(bytes)) = self.owed.back() { bytes.len() } else { 0 }
    }

    /// A batch of `length` bytes has been given to a lane.
    pub(super) fn batch(&mut self, ticket: Ticket, length: usize) {
        self.timed_batch(ticket, length, Under::Nothing.since(Moment::default()));
    }

    /// The same, and it is measured how long that takes.
    pub(super) fn timed_batch(&mut self, ticket: Ticket, length: usize, under_way: UnderWay) {
        self.give(ticket, length, self.muted, |ticket, length| Owed::Batch(ticket, length, under_way));
    }

    /// Commands of `length` bytes have been given to the connection of a transaction: each has its reply, or all have
    /// one.
    pub(super) fn queued(&mut self, ticket: Ticket, length: usize, has_one: bool) {
        let (forwarded, muted) = match (has_one, self.muted) {
            (false, muted) => (Forwarded::Each, muted),
            (true, false) => (Forwarded::One(BytesMut::new()), false),
            (true, true) => (Forwarded::Nothing(BytesMut::new()), false),
        };
        self.give(ticket, length, muted, |ticket, length| Owed::Queued(ticket, length, forwarded, None));
    }

    /// The last that was given is traced, perhaps.
    pub(super) fn last_is_traced(&mut self, traced: Option<TraceEnd>) {
        if let Some(Owed::Queued(.., end)) = self.owed.back_mut() {
            *end = traced;
        }
    }

    /// The same, and their replies are dropped.
    pub(super) fn silent(&mut self, ticket: Ticket, length: usize) {
        let forwarded = Forwarded::Nothing(BytesMut::new());
        self.give(ticket, length, false, |ticket, length| Owed::Queued(ticket, length, forwarded, None));
    }

    /// A WATCH of `length` bytes has been given to the connection of a transaction. It counts where nobody sees its
    /// reply.
    pub(super) fn watch(&mut self, ticket: Ticket, length: usize) {
        self.has_watched |= self.muted;
        self.give(ticket, length, self.muted, |ticket, length| Owed::Queued(ticket, length, Forwarded::Watch, None));
    }

    pub(super) fn give(
        &mut self,
        mut ticket: Ticket,
        length: usize,
        muted: bool,
        owed: impl FnOnce(Ticket, usize) -> Owed,
    ) {
        if muted {
            ticket.mute();
        }
        self.under_way += length;
        self.owe(owed(ticket, length));
    }

    /// Bytes of requests that wait for their replies.
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// A request of `length` bytes is being answered.
    pub(super) fn later(&mut self, reply: LaterReply, length: usize, under_way: UnderWay) {
        let cost = length + size_of_val(&*reply);
        self.under_way += cost;
        self.answering += cost;
        self.owe(match self.muted {
            true => Owed::Silent(reply, cost, under_way),
            false => Owed::Later(reply, cost, under_way),
        });
    }

    /// Bytes that are kept for requests that are being answered; those on a lane count themselves.
    pub(super) const fn answering(&self) -> usize {
        self.answering
    }

    /// Nothing waits for anything but the client.
    pub(super) fn is_settled(&self) -> bool {
        self.owed.is_empty()
    }

    /// Nothing is owed, nothing is to be written, and nothing can come without having been asked for.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.is_settled() && self.out.is_empty() && self.unsolicited.has_no_source()
    }

    /// Bytes that wait for the client here; what is in tickets, the inbox and the outbox counts itself.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() + self.ready + self.last_ready()
    }

    /// Entries that wait for what is before them, or to be made.
    pub(super) fn entries(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.owed.len() >= MOST_ENTRIES
    }

    /// Moves what is ready to `out`, in order, until `out` holds `enough` bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, enough: usize) -> Result<(), Stopped> {
        self.unsolicited.pass_on(cx);
        self.tell_of_owned(enough);
        while self.out.len() < enough {
            let Some(front) = self.owed.front() else {
                // What was too much to wait behind the replies.
                self.tell_of_owned(enough);
                return self.unsolicited.poll(cx, (&mut self.out, self.metrics.as_deref()), enough);
            };
            let moved = match front {
                Owed::Ready(_) => Poll::Ready(Ok(self.take_ready())),
                Owed::Batch(..) => self.poll_batch(cx),
                Owed::Filling(..) => self.poll_filling(cx),
                Owed::Queued(..) => self.poll_queued(cx),
                Owed::Later(..) | Owed::Silent(..) => self.poll_later(cx),
            };
            match moved {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(stopped)) => return Err(stopped),
                Poll::Ready(Ok(Front::GoesOn)) => {}
                Poll::Ready(Ok(Front::HasEnded)) => {
                    self.owed.pop_front();
                    self.has_begun = false;
                    if self.is_timed && self.owed.is_empty() {
                        self.settled = Some(Tick::now());
                    }
                }
            }
        }
        Ok(())
    }

    /// What the client is told of owned keys comes behind all that it is owed: one of these may be a reply with what a
    /// key held before. What the upstream alone is asked holds nothing of an owned key, and may take any time; but at a
    /// change of what is owned, a key may be owned from now on (`tells_behind`).
    fn tell_of_owned(&mut self, enough: usize) {
        if !self.unsolicited.has_own_news() || self.is_held || self.out.len() >= enough {
            return;
        }
        let is_upstreams =
            |owed: &Owed| matches!(owed, Owed::Batch(..) | Owed::Filling(..)) || is_planted("tracked-told-in-front");
        let goes_first = !self.tells_behind && !self.has_begun && self.owed.iter().all(is_upstreams);
        if !goes_first && self.ready + self.last_ready() > MOST_READY {
            return;
        }
        self.tells_behind = false;
        for one in self.unsolicited.own_news() {
            match goes_first {
                true => self.out.append(one),
                false => self.loud().put_slice(&one),
            }
        }
    }

    fn take_ready(&mut self) -> Front {
        let is_last = self.owed.len() == 1;
        if let Some(Owed::Ready(bytes)) = self.owed.front_mut() {
            self.ready -= if is_last { 0 } else { bytes.len() };
            self.out.append(bytes.split().freeze());
        }
        Front::HasEnded
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Front, Stopped>> {
        let Some(Owed::Batch(ticket, length, under_way)) = self.owed.front_mut() else {
            return Poll::Ready(Ok(Front::GoesOn));
        };
        if let Some(chunk) = ready!(ticket.poll_chunk(cx))? {
            let bytes = self.unsolicited.comes(chunk);
            under_way.saw(&bytes);
            self.has_begun = true;
            self.out.append(bytes);
            return Poll::Ready(Ok(Front::GoesOn));
        }
        if let Some(metrics) = &self.metrics {
            metrics.times.ended(under_way);
        }
        under_way.end_trace();
        self.under_way -= *length;
        self.was_bulky |= ticket.is_bulky();
        // Behind a later reply of the upstream's it could not be told from what came before that.
        if self.owed.iter().skip(1).all(|owed| matches!(owed, Owed::Ready(_))) {
            self.unsolicited.take_come(&mut self.out, self.metrics.as_deref());
        }
        Poll::Ready(Ok(Front::HasEnded))
    }

    fn poll_queued(&mut self, cx: &mut Context<'_>) -> Poll<Result<Front, Stopped>> {
        let Some(Owed::Queued(ticket, length, forwarded, traced)) = self.owed.front_mut() else {
            return Poll::Ready(Ok(Front::GoesOn));
        };
        match (ready!(ticket.poll_chunk(cx))?, forwarded) {
            (Some(Chunk::Push(bytes)), _) => self.out.append(self.unsolicited.says(bytes)),
            (Some(Chunk::Reply(bytes)), Forwarded::Each) => {
                self.is_refused |= refuses(&bytes);
                self.out.append(bytes);
            }
            (Some(Chunk::Reply(bytes)), Forwarded::Watch) => {
                self.has_watched |= bytes.starts_with(b"+");
                self.out.append(bytes);
            }
            (Some(Chunk::Reply(bytes)), Forwarded::One(all) | Forwarded::Nothing(all)) => all.extend_from_slice(&bytes),
            (None, forwarded) => {
                traced.take().into_iter().for_each(TraceEnd::answered);
                self.under_way -= *length;
                let forwarded = std::mem::replace(forwarded, Forwarded::Each);
                self.end_queued(&forwarded);
                return Poll::Ready(Ok(Front::HasEnded));
            }
        }
        Poll::Ready(Ok(Front::GoesOn))
    }

    /// All replies of a unit have come, of which the client gets one or none.
    fn end_queued(&mut self, of: &Forwarded) {
        if let Forwarded::One(all) | Forwarded::Nothing(all) = of {
            self.is_refused |= refuses(summary(all));
            self.is_unclean |= all.starts_with(b"-");
        }
        if let Forwarded::One(all) = of {
            self.out.tail().put_slice(summary(all));
        }
    }

    fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<Result<Front, Stopped>> {
        let Some(Owed::Later(reply, cost, under_way) | Owed::Silent(reply, cost, under_way)) = self.owed.front_mut()
        else {
            return Poll::Ready(Ok(Front::GoesOn));
        };
        let reply = ready!(reply.as_mut().poll(cx))?;
        if let Some(metrics) = &self.metrics {
            metrics.times.ended(under_way);
        }
        under_way.saw(reply.iter().next().unwrap_or_default());
        under_way.end_trace();
        let cost = *cost;
        self.under_way -= cost;
        self.answering -= cost;
        if matches!(self.owed.front(), Some(Owed::Later(..))) {
            self.out.append_all(reply);
        }
        Poll::Ready(Ok(Front::HasEnded))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use tokio::sync::oneshot;

    use super::{Moment, Replies, Under};

    fn later(replies: &mut Replies) -> oneshot::Sender<&'static [u8]> {
        let (sender, receiver) = oneshot::channel();
        let reply = async move { Ok(Bytes::from_static(receiver.await.expect("sent")).into()) };
        replies.later(Box::pin(reply), 100, Under::Nothing.since(Moment::default()));
        sender
    }

    async fn settle(replies: &mut Replies) {
        std::future::poll_fn(|cx| std::task::Poll::Ready(replies.poll(cx, usize::MAX))).await.expect("whole");
    }

    #[tokio::test]
    async fn a_reply_that_is_ready_waits_for_those_before_it() {
        let mut replies = Replies::default();
        replies.tail().put_slice(b"1");
        let second = later(&mut replies);
        replies.tail().put_slice(b"3");
        let fourth = later(&mut replies);
        replies.tail().put_slice(b"5");
        fourth.send(b"4").expect("awaited");
        settle(&mut replies).await;
        assert_eq!((&replies.out.gathered()[..], replies.waiting(), replies.is_settled()), (&b"1"[..], 3, false));
        second.send(b"2").expect("awaited");
        settle(&mut replies).await;
        assert_eq!((&replies.out.gathered()[..], replies.waiting(), replies.is_settled()), (&b"12345"[..], 5, true));
    }
}
