//! The replies one client is owed. Order is a type: every request puts exactly one entry here before the next is
//! read, and bytes leave from the front only (hazard 16).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::dispatch::LaterReply;
use crate::upstream::{Broken, Ticket};

enum Owed {
    /// Replies that are ready but must wait for what is before them.
    Ready(BytesMut),
    /// A run's replies, on a lane.
    Run(Ticket),
    /// A reply that is being made.
    Later(LaterReply),
}

/// Most entries that may wait before no further request is read.
const MOST_ENTRIES: usize = 1024;

#[derive(Default)]
pub(super) struct Replies {
    owed: VecDeque<Owed>,
    /// Bytes that may be written now.
    pub(super) out: BytesMut,
}

impl Replies {
    /// Where the next reply that is ready goes.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.owed.is_empty() {
            return &mut self.out;
        }
        if !matches!(self.owed.back(), Some(Owed::Ready(_))) {
            self.owed.push_back(Owed::Ready(BytesMut::new()));
        }
        match self.owed.back_mut() {
            Some(Owed::Ready(bytes)) => bytes,
            _ => &mut self.out,
        }
    }

    pub(super) fn run(&mut self, ticket: Ticket) {
        self.owed.push_back(Owed::Run(ticket));
    }

    pub(super) fn later(&mut self, reply: LaterReply) {
        self.owed.push_back(Owed::Later(reply));
    }

    /// Nothing waits for anything but the client.
    pub(super) fn is_settled(&self) -> bool {
        self.owed.is_empty()
    }

    /// Bytes held for the client.
    pub(super) fn held(&self) -> usize {
        let waiting = self.owed.iter().map(|owed| match owed {
            Owed::Ready(bytes) => bytes.len(),
            Owed::Run(ticket) => ticket.held(),
            Owed::Later(_) => 0,
        });
        self.out.len() + waiting.sum::<usize>()
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.owed.len() >= MOST_ENTRIES
    }

    /// While nothing can be written, what arrives must still be noticed: it may become too much to hold.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        if let Some(Owed::Run(ticket)) = self.owed.front() {
            ticket.wake_on_arrival(cx);
        }
    }

    /// Moves what is ready to `out`, in order, until `out` holds `enough` bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, enough: usize) -> Result<(), Broken> {
        while self.out.len() < enough {
            let Some(front) = self.owed.front_mut() else { return Ok(()) };
            match front {
                Owed::Ready(bytes) => self.out.extend_from_slice(bytes),
                Owed::Run(ticket) => match ticket.poll_chunk(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(chunk) => {
                        if let Some(chunk) = chunk? {
                            self.out.extend_from_slice(&chunk);
                            continue;
                        }
                    }
                },
                Owed::Later(reply) => match reply.as_mut().poll(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(reply) => self.out.extend_from_slice(&reply?),
                },
            }
            self.owed.pop_front();
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
        replies.later(Box::pin(async move { Ok(Bytes::from_static(receiver.await.expect("sent"))) }));
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
        assert_eq!((&replies.out[..], replies.held(), replies.is_settled()), (&b"1"[..], 3, false));
        second.send(b"2").expect("awaited");
        settle(&mut replies).await;
        assert_eq!((&replies.out[..], replies.held(), replies.is_settled()), (&b"12345"[..], 5, true));
    }
}
