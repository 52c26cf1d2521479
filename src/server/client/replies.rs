//! The replies one client is owed. Order is a type: every request puts exactly one entry here before the next is
//! read, and bytes leave from the front only (hazard 16).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};

use super::output::Output;
use crate::dispatch::LaterReply;
use crate::resp::Proto;
use crate::resp::pieces::Pieces;
use crate::transaction::{refuses, told};
use crate::upstream::{Broken, Chunk, Inbox, Overflowed, Subscriber, Ticket};

enum Owed {
    /// Replies that are ready but must wait for what is before them.
    Ready(BytesMut),
    /// A run's replies, on a lane, and the bytes of its requests.
    Batch(Ticket, usize),
    /// The same for commands of a transaction.
    Queued(Ticket, usize, Told),
    /// A reply that is being made, and the bytes that this takes.
    Later(LaterReply, usize),
    /// A reply that is being made and will be dropped.
    Silent(LaterReply, usize),
}

/// What the client is told of a transaction's replies.
enum Told {
    /// Each of them.
    Each,
    /// One of these.
    One(BytesMut),
    /// None of these.
    Nothing(BytesMut),
}

/// Why nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// A reply was cut short upstream.
    Broken,
    /// Messages were lost because the client did not read.
    Overflowed,
}

impl From<Broken> for Stopped {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<Overflowed> for Stopped {
    fn from(_: Overflowed) -> Self {
        Self::Overflowed
    }
}

/// Most entries that may wait before no further request is read.
const MOST_ENTRIES: usize = 1024;

#[derive(Default)]
pub(crate) struct Replies {
    owed: VecDeque<Owed>,
    /// Bytes of requests that are on their way.
    under_way: usize,
    /// Those of them for which a reply is being made here.
    answering: usize,
    /// Bytes in what is ready and must wait, but for the last entry.
    ready: usize,
    /// Bytes that may be written now.
    pub(crate) out: Output,
    /// What comes unasked on the client's own connection.
    pub(crate) inbox: Option<Inbox>,
    /// What comes unasked over the shared subscriber connection.
    pub(crate) subscriber: Option<Arc<Subscriber>>,
    /// The client's protocol, for shared messages.
    pub(crate) proto: Proto,
    /// Replies are dropped (CLIENT REPLY).
    pub(crate) muted: bool,
    /// Takes what is dropped.
    scratch: BytesMut,
    /// One of the replies was very long.
    pub(crate) was_bulky: bool,
    /// One of a transaction's commands was answered with an error.
    pub(crate) is_refused: bool,
    /// What begins or ends a transaction was: its connection may still be in one, or watch.
    pub(crate) is_unclean: bool,
}

impl Replies {
    /// Where the next reply that is ready goes.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        if self.muted {
            self.scratch.clear();
            return &mut self.scratch;
        }
        self.loud()
    }

    /// A reply that is ready and may be long.
    pub(crate) fn put(&mut self, reply: BytesMut) {
        let tail = self.tail();
        if tail.is_empty() { *tail = reply } else { tail.put_slice(&reply) }
    }

    /// A reply that is ready, and very long.
    pub(crate) fn put_all(&mut self, reply: Pieces) {
        match () {
            () if self.muted => {}
            () if self.owed.is_empty() => self.out.append_all(reply),
            () => self.later(Box::pin(std::future::ready(Ok(reply))), 0),
        }
    }

    /// Where the next push message goes, which is sent even to a client that wants no replies.
    pub(crate) fn loud(&mut self) -> &mut BytesMut {
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

    /// A run of `length` bytes has been given to a lane.
    pub(crate) fn run(&mut self, ticket: Ticket, length: usize) {
        self.give(ticket, length, self.muted, Owed::Batch);
    }

    /// Commands of `length` bytes have been given to the connection of a transaction: each has its reply, or all have one.
    pub(crate) fn queued(&mut self, ticket: Ticket, length: usize, has_one: bool) {
        let (told, muted) = match (has_one, self.muted) {
            (false, muted) => (Told::Each, muted),
            (true, false) => (Told::One(BytesMut::new()), false),
            (true, true) => (Told::Nothing(BytesMut::new()), false),
        };
        self.give(ticket, length, muted, |ticket, length| Owed::Queued(ticket, length, told));
    }

    /// The same, and their replies are nobody's.
    pub(crate) fn silent(&mut self, ticket: Ticket, length: usize) {
        let told = Told::Nothing(BytesMut::new());
        self.give(ticket, length, false, |ticket, length| Owed::Queued(ticket, length, told));
    }

    fn give(&mut self, ticket: Ticket, length: usize, muted: bool, owed: impl FnOnce(Ticket, usize) -> Owed) {
        if muted {
            ticket.mute();
        }
        self.under_way += length;
        self.owe(owed(ticket, length));
    }

    /// Bytes of requests that wait for their replies.
    pub(crate) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// A request of `length` bytes is being answered.
    pub(crate) fn later(&mut self, reply: LaterReply, length: usize) {
        let cost = length + size_of_val(&*reply);
        self.under_way += cost;
        self.answering += cost;
        self.owe(if self.muted { Owed::Silent(reply, cost) } else { Owed::Later(reply, cost) });
    }

    /// Bytes that are kept for requests that are being answered; those on a lane count themselves.
    pub(crate) const fn answering(&self) -> usize {
        self.answering
    }

    /// Nothing waits for anything but the client.
    pub(crate) fn is_settled(&self) -> bool {
        self.owed.is_empty()
    }

    /// Bytes that wait for the client here; what is in tickets, the inbox and the outbox counts itself.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len() + self.ready + self.last_ready()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.owed.len() >= MOST_ENTRIES
    }

    /// While nothing can be written, messages may become too many to hold.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> Result<(), Stopped> {
        self.subscriber.as_ref().map_or(Ok(()), |subscriber| subscriber.watch(cx))?;
        Ok(())
    }

    /// Moves what is ready to `out`, in order, until `out` holds `enough` bytes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, enough: usize) -> Result<(), Stopped> {
        while self.out.len() < enough {
            let is_last = self.owed.len() == 1;
            let Some(front) = self.owed.front_mut() else { return self.poll_unasked(cx, enough) };
            match front {
                Owed::Ready(bytes) => {
                    self.ready -= if is_last { 0 } else { bytes.len() };
                    self.out.append(bytes.split().freeze());
                }
                Owed::Batch(ticket, length) => match ticket.poll_chunk(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(chunk) => {
                        if let Some(Chunk::Reply(bytes) | Chunk::Push(bytes)) = chunk? {
                            self.out.append(bytes);
                            continue;
                        }
                        self.under_way -= *length;
                        self.was_bulky |= ticket.is_bulky();
                        // What came right behind the last reply also leaves there.
                        while let Some(frame) = self.inbox.as_ref().and_then(Inbox::take) {
                            self.out.append(frame);
                        }
                    }
                },
                Owed::Queued(ticket, length, of) => match (ticket.poll_chunk(cx), &mut *of) {
                    (Poll::Pending, _) => return Ok(()),
                    (Poll::Ready(chunk), of) => {
                        match (chunk?, of) {
                            (Some(Chunk::Push(bytes)), _) => self.out.append(bytes),
                            (Some(Chunk::Reply(bytes)), Told::Each) => {
                                self.is_refused |= refuses(&bytes);
                                self.out.append(bytes);
                            }
                            (Some(Chunk::Reply(bytes)), Told::One(all) | Told::Nothing(all)) => {
                                all.extend_from_slice(&bytes);
                            }
                            (None, of) => {
                                if let Told::One(all) | Told::Nothing(all) = of {
                                    self.is_refused |= refuses(told(all));
                                    self.is_unclean |= all.starts_with(b"-");
                                }
                                if let Told::One(all) = of {
                                    self.out.tail().put_slice(told(all));
                                }
                                self.under_way -= *length;
                                self.owed.pop_front();
                            }
                        }
                        continue;
                    }
                },
                Owed::Later(reply, cost) | Owed::Silent(reply, cost) => {
                    let Poll::Ready(reply) = reply.as_mut().poll(cx) else { return Ok(()) };
                    let (reply, cost) = (reply?, *cost);
                    self.under_way -= cost;
                    self.answering -= cost;
                    if matches!(self.owed.front(), Some(Owed::Later(..))) {
                        self.out.append_all(reply);
                    }
                }
            }
            self.owed.pop_front();
        }
        Ok(())
    }

    fn poll_unasked(&mut self, cx: &Context<'_>, enough: usize) -> Result<(), Stopped> {
        while let (Some(inbox), true) = (&self.inbox, self.out.len() < enough) {
            match inbox.poll_take(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(frame)) => self.out.append(frame),
                Poll::Ready(Err(_)) => return Err(Stopped::Broken),
            }
        }
        while let (Some(subscriber), true) = (&self.subscriber, self.out.len() < enough) {
            match subscriber.poll_take(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(message)) => {
                    self.out.tail().put_u8(if self.proto == Proto::Resp2 { b'*' } else { b'>' });
                    self.out.share(message);
                }
                Poll::Ready(Err(_)) => return Err(Stopped::Overflowed),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use tokio::sync::oneshot;

    use super::Replies;

    fn later(replies: &mut Replies) -> oneshot::Sender<&'static [u8]> {
        let (sender, receiver) = oneshot::channel();
        let reply = async move { Ok(Bytes::from_static(receiver.await.expect("sent")).into()) };
        replies.later(Box::pin(reply), 100);
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
