//! Wakes tasks of this thread that wait for each other.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// Wakes the task that waits, if one does.
pub(crate) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Wakes the task of a lane, also because a client whose requests it holds back has room for replies again.
#[derive(Debug, Default)]
pub(super) struct LaneWaker {
    /// A client has had room again since the lane last looked.
    has_room: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl LaneWaker {
    /// The task of `cx` is the lane's.
    pub(super) fn register(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    /// Wakes the lane's task.
    pub(super) fn wake(&self) {
        wake(&mut self.waker.borrow_mut());
    }

    /// Wakes it because a client has room again.
    pub(super) fn announce_room(&self) {
        self.has_room.set(true);
        self.wake();
    }

    /// True if a client has had room again since the last time that this was asked.
    pub(super) const fn take_room(&self) -> bool {
        self.has_room.replace(false)
    }
}
