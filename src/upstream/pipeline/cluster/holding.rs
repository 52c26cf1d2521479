//! Replies that wait a moment for those of other nodes, so that their client is written to once: a write costs as much
//! as many requests. A worker's clients wait for the same beat, so that none needs a timer of its own.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(1);

/// Whoever of a worker thread waits for the next beat.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// The number of the last beat.
    last: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    begun: Notify,
}

impl Holding {
    /// Wakes this one at the next beat, which has the number that is returned.
    pub(super) fn wait(&self, waker: &Waker) -> u64 {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.begun.notify_one();
        }
        waiting.push(waker.clone());
        self.last.get() + 1
    }

    /// The beat with this number has been.
    pub(super) const fn has_been(&self, beat: u64) -> bool {
        self.last.get() >= beat
    }

    /// Beats as long as anybody waits. Runs for ever.
    pub(crate) async fn beat(&self) {
        loop {
            if self.waiting.borrow().is_empty() {
                self.begun.notified().await;
            }
            tokio::time::sleep(BEAT).await;
            self.last.set(self.last.get() + 1);
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}
