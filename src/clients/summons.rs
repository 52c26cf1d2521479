//! Who waits until a client has a connection of its own at the upstream: those whose invalidations go there
//! (CLIENT TRACKING with REDIRECT). Looked at by the client's task at every turn, so it costs one atomic while empty.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// The waiting ones.
#[derive(Debug, Default)]
pub struct Summons {
    is_any: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    who: Vec<oneshot::Sender<Option<i64>>>,
    /// The client is gone.
    is_over: bool,
}

impl Summons {
    pub(super) fn add(&self) -> oneshot::Receiver<Option<i64>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_over {
            waiting.who.push(sender);
            self.is_any.store(true, Relaxed);
        }
        receiver
    }

    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    pub(super) fn answer(&self, connection: Option<i64>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_any.store(false, Relaxed);
        for who in waiting.who.drain(..) {
            // Who does not wait any more needs no answer.
            let _ = who.send(connection);
        }
    }

    /// True once the client is gone.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_over
    }

    /// The client is gone: nobody is answered.
    pub(super) fn end(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_over = true;
        waiting.who.clear();
    }
}
