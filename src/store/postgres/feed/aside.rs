//! Keys whose changes stand in the server's log and may not be seen yet, and of which nobody here kept anything when
//! they came: nobody looks whether they can be seen, until somebody reads or writes one of them.
//!
//! Invariant: whoever reads or writes a key can be found by those who ask who does, before he asks here; and a key is
//! put here before it is asked who reads or writes it. So one of both notices the other.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::telemetry::planted::is_planted;

#[derive(Debug, Default)]
pub(super) struct Aside {
    keys: Mutex<HashSet<Bytes>>,
    asked: Notify,
}

impl Aside {
    fn keys(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of these have come.
    pub(super) fn put<'k>(&self, keys: impl IntoIterator<Item = &'k Bytes>) {
        self.keys().extend(keys.into_iter().cloned());
    }

    /// It has been looked which of them can be seen.
    pub(super) fn clear(&self) {
        self.keys().clear();
    }

    /// Somebody is about to read or write this key.
    pub(super) fn is_of_interest(&self, key: &[u8]) {
        if self.keys().contains(key) && !is_planted("aside-ignored") {
            self.ask();
        }
    }

    /// It is to be looked what can be seen.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until it is.
    pub(super) async fn is_asked(&self) {
        self.asked.notified().await;
    }
}
