//! The transactions that watch one key.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// The transactions that watch one key; those that have ended are removed at the next opportunity.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Weak<AtomicBool>>);

impl Watchers {
    pub(super) fn add(&mut self) -> Arc<AtomicBool> {
        self.0.retain(|watcher| watcher.strong_count() > 0);
        let touched = Arc::new(AtomicBool::new(false));
        self.0.push(Arc::downgrade(&touched));
        touched
    }

    /// Something happens to the key.
    pub(super) fn touch(&mut self) {
        self.0.drain(..).filter_map(|watcher| watcher.upgrade()).for_each(|touched| touched.store(true, SeqCst));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|watcher| watcher.strong_count() == 0)
    }
}
