//! What every client of a worker hears at once: a shutdown, or another edition. It knows nothing of what they do then.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::Waker;

/// Tells every client of a worker that the sidecar is shutting down, or that there is another edition.
#[derive(Debug, Default)]
pub(super) struct Bell {
    drains: Cell<bool>,
    rings: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl Bell {
    /// The sidecar is shutting down.
    pub(super) fn drain(&self) {
        self.drains.set(true);
        self.ring();
    }

    /// Every client looks up, the idle ones too.
    pub(super) fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
        for waker in self.wakers.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// The task of this client is woken from now on.
    pub(super) fn enroll(&self, client: u64, waker: Waker) {
        self.wakers.borrow_mut().insert(client, waker);
    }

    /// The client is gone.
    pub(super) fn leave(&self, client: u64) {
        self.wakers.borrow_mut().remove(&client);
    }

    /// True once the sidecar is shutting down.
    pub(super) const fn drains(&self) -> bool {
        self.drains.get()
    }

    /// How often it has rung.
    pub(super) const fn rings(&self) -> u64 {
        self.rings.get()
    }
}
