//! What a client holds while a lane works for it: the place where its reply bytes arrive, in order, and with them the
//! push messages that came between.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// The connection died in the middle of a reply whose beginning the client already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream connection was lost in the middle of a reply")]
pub struct Broken;

/// Bytes on their way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Of replies.
    Reply(Bytes),
    /// Push messages, whole.
    Push(Bytes),
}

#[derive(Debug, Default)]
struct Slot {
    chunks: VecDeque<Chunk>,
    /// Bytes in `chunks`.
    held: usize,
    /// Replies are read and dropped (CLIENT REPLY OFF).
    muted: bool,
    /// One reply was so long that others should not have to wait behind the next.
    bulky: bool,
    end: Option<Result<(), Broken>>,
    waker: Option<Waker>,
    /// The lane's task, if it waits for the client to take something.
    room: Option<Waker>,
}

/// The client's side.
#[derive(Debug)]
pub struct Ticket(Rc<RefCell<Slot>>);

/// The lane's side.
#[derive(Debug)]
pub(super) struct Delivery(Rc<RefCell<Slot>>);

pub(super) fn ticket() -> (Ticket, Delivery) {
    let slot = Rc::new(RefCell::new(Slot::default()));
    (Ticket(slot.clone()), Delivery(slot))
}

impl Ticket {
    /// The next bytes; `None` after the last.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Broken>> {
        let mut slot = self.0.borrow_mut();
        if let Some(chunk) = slot.chunks.pop_front() {
            slot.held -= chunk.bytes().len();
            wake(&mut slot.room);
            return Poll::Ready(Ok(Some(chunk)));
        }
        if let Some(end) = slot.end {
            return Poll::Ready(end.map(|()| None));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Bytes that have arrived and not been taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.borrow().held
    }

    /// Wakes the task of `cx` when more arrives, without taking anything.
    pub fn wake_on_arrival(&self, cx: &Context<'_>) {
        self.0.borrow_mut().waker = Some(cx.waker().clone());
    }

    /// From now on only push messages arrive.
    pub fn mute(&self) {
        self.0.borrow_mut().muted = true;
    }

    /// True when one of its replies was so long that the client should have a connection of its own.
    #[must_use]
    pub fn is_bulky(&self) -> bool {
        self.0.borrow().bulky
    }

    /// All replies at once, for the few that the sidecar reads itself.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn whole(self) -> Result<Bytes, Broken> {
        Ok(self.parts().await?.0)
    }

    /// All replies at once, and the push messages that came before or between them.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn parts(self) -> Result<(Bytes, Bytes), Broken> {
        let (mut replies, mut pushes) = (BytesMut::new(), BytesMut::new());
        while let Some(chunk) = std::future::poll_fn(|cx| self.poll_chunk(cx)).await? {
            match chunk {
                Chunk::Reply(bytes) => replies.extend_from_slice(&bytes),
                Chunk::Push(bytes) => pushes.extend_from_slice(&bytes),
            }
        }
        Ok((replies.freeze(), pushes.freeze()))
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
        if slot.muted && matches!(chunk, Chunk::Reply(_)) {
            return;
        }
        slot.held += chunk.bytes().len();
        slot.chunks.push_back(chunk);
        wake(&mut slot.waker);
    }

    pub(super) fn bulky(&self) {
        self.0.borrow_mut().bulky = true;
    }

    /// True when the client has taken all but `most` bytes; if not, the task of `cx` is woken when it takes some.
    pub(super) fn poll_room(&self, most: usize, cx: &Context<'_>) -> bool {
        let mut slot = self.0.borrow_mut();
        let has_room = slot.held <= most || !self.is_wanted();
        if !has_room {
            slot.room = Some(cx.waker().clone());
        }
        has_room
    }

    pub(super) fn end(self, end: Result<(), Broken>) {
        let mut slot = self.0.borrow_mut();
        slot.end = Some(end);
        wake(&mut slot.waker);
    }
}

/// Wakes who waits, if somebody does.
pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
