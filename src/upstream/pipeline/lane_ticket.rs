//! What a client holds while a lane works for it: its reply bytes arrive here, in order, together with the push
//! messages that came between them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::account::{Account, cost};
use super::lane_waker::wake;
use crate::errors;

/// The connection died in the middle of a reply whose beginning the client already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", errors::upstream::LOST_IN_REPLY)]
pub struct Broken;

/// Bytes on their way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Of replies.
    Reply(Bytes),
    /// Push messages, whole.
    Push(Bytes),
}

/// A chunk is a slice of what was read at once, all of which it keeps in memory. One that is shorter than this is
/// copied when its client does not take what came before, and any is when the client has so much to take: what is
/// counted is what is kept.
pub(super) const SLICE: usize = 32 * 1024;
const SLICES: usize = 128 * 1024;
/// What is copied is copied to pieces of a size of which an allocator wastes nothing.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
struct Slot {
    chunks: VecDeque<Chunk>,
    account: Rc<Account>,
    /// Replies are read and dropped (CLIENT REPLY OFF).
    muted: bool,
    /// One reply was so long that others should not have to wait behind the next.
    bulky: bool,
    /// Something was not kept, for a client that is to go: it is given nothing that came behind.
    has_gap: bool,
    end: Option<Result<(), Broken>>,
    waker: Option<Waker>,
}

impl Slot {
    const fn of(account: Rc<Account>) -> Self {
        Self { chunks: VecDeque::new(), account, muted: false, bulky: false, has_gap: false, end: None, waker: None }
    }

    fn take(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.account.took(cost(chunk.bytes()));
        Some(chunk)
    }

    fn keep(&mut self, chunk: Chunk) {
        self.account.came(cost(chunk.bytes()));
        self.chunks.push_back(chunk);
    }

    /// The same bytes, and nothing that lay beside them.
    fn copy(&mut self, chunk: &Chunk) {
        for piece in chunk.bytes().chunks(PIECE).map(Bytes::copy_from_slice) {
            self.keep(match chunk {
                Chunk::Reply(_) => Chunk::Reply(piece),
                Chunk::Push(_) => Chunk::Push(piece),
            });
        }
    }

    fn end(&mut self, end: Result<(), Broken>) {
        if !self.has_gap {
            self.end = Some(end);
            wake(&mut self.waker);
        }
    }

    fn drop_chunks(&mut self) {
        while self.take().is_some() {}
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.drop_chunks();
    }
}

/// The client's side.
#[derive(Debug)]
pub struct LaneTicket(Rc<RefCell<Slot>>);

/// The lane's side.
#[derive(Debug)]
pub(super) struct Delivery(Rc<RefCell<Slot>>);

/// For requests of the client that `account` is of.
pub(super) fn ticket(account: Rc<Account>) -> (LaneTicket, Delivery) {
    let slot = Rc::new(RefCell::new(Slot::of(account)));
    (LaneTicket(slot.clone()), Delivery(slot))
}

/// What still comes is for nobody.
impl Drop for LaneTicket {
    fn drop(&mut self) {
        self.0.borrow_mut().drop_chunks();
    }
}

impl LaneTicket {
    /// The next bytes; `None` after the last.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Broken>> {
        let mut slot = self.0.borrow_mut();
        if let Some(chunk) = slot.take() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        if let Some(end) = slot.end {
            return Poll::Ready(end.map(|()| None));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Only push messages arrive, whatever has come already: what cannot be sent is answered at once.
    pub fn mute(&self) {
        let mut slot = self.0.borrow_mut();
        slot.muted = true;
        let (pushes, replies): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut slot.chunks).into_iter().partition(|chunk| matches!(chunk, Chunk::Push(_)));
        slot.chunks = pushes;
        replies.iter().for_each(|chunk| slot.account.took(cost(chunk.bytes())));
    }

    /// True when one of its replies was so long that the client should not share a connection.
    #[must_use]
    pub fn is_bulky(&self) -> bool {
        self.0.borrow().bulky
    }

    /// The account of its client.
    pub(super) fn account(&self) -> Rc<Account> {
        self.0.borrow().account.clone()
    }
}

impl Chunk {
    /// The bytes, whatever they are.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::Reply(bytes) | Self::Push(bytes) => bytes,
        }
    }
}

/// Whoever drops it in a panic has not said how it ends.
impl Drop for Delivery {
    fn drop(&mut self) {
        if let Ok(mut slot) = self.0.try_borrow_mut()
            && slot.end.is_none()
        {
            slot.end(Err(Broken));
        }
    }
}

impl Delivery {
    /// False when the client has left: its replies are read and dropped.
    pub(super) fn is_wanted(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    pub(super) fn push(&self, chunk: Chunk) {
        if !self.is_wanted() || chunk.bytes().is_empty() {
            return;
        }
        let mut slot = self.0.borrow_mut();
        if slot.has_gap || slot.muted && matches!(chunk, Chunk::Reply(_)) {
            return;
        }
        let (waiting, length) = (slot.account.owes(), chunk.bytes().len());
        let is_copied = waiting > SLICES || waiting > 0 && length < SLICE;
        if is_copied && slot.account.overflows() {
            slot.has_gap = true;
            return;
        }
        if is_copied {
            slot.copy(&chunk)
        } else {
            slot.keep(chunk)
        }
        wake(&mut slot.waker);
    }

    /// The account of its client.
    pub(super) fn account(&self) -> Rc<Account> {
        self.0.borrow().account.clone()
    }

    pub(super) fn bulky(&self) {
        self.0.borrow_mut().bulky = true;
    }

    pub(crate) fn end(self, end: Result<(), Broken>) {
        self.0.borrow_mut().end(end);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::{Account, Chunk, ticket};
    use crate::telemetry::client_memory::{Buffers, Holding};

    #[test]
    fn nobody_is_given_what_came_behind_something_that_was_not_kept() {
        let all = Arc::new(Buffers::default());
        all.limit(10_000);
        let holding = Arc::new(Holding::among(all));
        let (ticket, delivery) = ticket(Account::of(holding.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        let reply = |length| Chunk::Reply(Bytes::from(vec![b'x'; length]));
        delivery.push(reply(20_000));
        delivery.push(reply(10));
        assert!(holding.is_cut(), "it is more than all may hold");
        assert_eq!(ticket.poll_chunk(&mut cx), Poll::Ready(Ok(Some(reply(20_000)))));
        // It has taken everything before it is closed.
        delivery.push(reply(30));
        assert_eq!(ticket.poll_chunk(&mut cx), Poll::Pending);
        delivery.end(Ok(()));
        assert_eq!(ticket.poll_chunk(&mut cx), Poll::Pending);
    }
}
