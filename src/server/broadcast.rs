//! Wakes all clients of a worker at once, for a shutdown or a new edition. Knows nothing of what they do then.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::Waker;

use crate::telemetry::clock::Tick;

/// Tells every client of a worker that the sidecar is shutting down, or that there is another edition.
#[derive(Debug, Default)]
pub(super) struct Broadcast {
    drains: Cell<Option<Tick>>,
    announcements: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl Broadcast {
    /// The sidecar is shutting down, and takes no more requests from this moment on.
    pub(super) fn drain(&self, last: Tick) {
        self.drains.set(Some(last));
        self.announce();
    }

    /// Wakes every client, the idle ones too.
    pub(super) fn announce(&self) {
        self.announcements.set(self.announcements.get() + 1);
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

    /// If the sidecar is shutting down: from when on it takes no more requests.
    pub(super) const fn drains(&self) -> Option<Tick> {
        self.drains.get()
    }

    /// How many announcements there have been.
    pub(super) const fn announcements(&self) -> u64 {
        self.announcements.get()
    }
}
