//! What a client holds while a lane works for it: the place where its reply bytes arrive, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// The connection died in the middle of a reply whose beginning the client already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream connection was lost in the middle of a reply")]
pub struct Broken;

#[derive(Debug, Default)]
struct Slot {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    held: usize,
    end: Option<Result<(), Broken>>,
    waker: Option<Waker>,
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
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let mut slot = self.0.borrow_mut();
        if let Some(chunk) = slot.chunks.pop_front() {
            slot.held -= chunk.len();
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

    /// All bytes at once, for the few replies that the sidecar reads itself.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn whole(self) -> Result<Bytes, Broken> {
        let mut all = BytesMut::new();
        while let Some(chunk) = std::future::poll_fn(|cx| self.poll_chunk(cx)).await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl Delivery {
    /// False when the client has left: its replies are read and dropped.
    fn is_wanted(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    pub(super) fn push(&self, chunk: Bytes) {
        if self.is_wanted() && !chunk.is_empty() {
            let mut slot = self.0.borrow_mut();
            slot.held += chunk.len();
            slot.chunks.push_back(chunk);
            wake(&mut slot);
        }
    }

    pub(super) fn end(self, end: Result<(), Broken>) {
        let mut slot = self.0.borrow_mut();
        slot.end = Some(end);
        wake(&mut slot);
    }
}

fn wake(slot: &mut Slot) {
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}
