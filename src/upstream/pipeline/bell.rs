//! Wakes tasks of this thread that wait for each other.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// Wakes the task that waits, if one does.
pub(crate) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Tells a lane that a client whose requests it holds back has room for replies again.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// The lane's task is woken when the bell rings, or by [`Bell::wake`].
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    /// Wakes the lane's task.
    pub(crate) fn wake(&self) {
        wake(&mut self.waker.borrow_mut());
    }

    pub(super) fn ring(&self) {
        self.rung.set(true);
        self.wake();
    }

    /// True once after it has rung.
    pub(super) const fn has_rung(&self) -> bool {
        self.rung.replace(false)
    }
}
