//! A cache takes the place of another when the mappings are reloaded. Until the old one has ended what it had begun, the new
//! one asks the store nothing: what it read could be older than what the old one acknowledges (C1).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cache::Cache;
use crate::journal::Journal;
use crate::telemetry::clock::now_ms;

/// What the store's work waits at.
#[derive(Debug)]
pub(crate) struct Handover(watch::Sender<bool>);

impl Default for Handover {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Handover {
    pub(crate) async fn opened(&self) {
        if !*self.0.borrow() {
            // The gate lives as long as who waits at it.
            let mut gate = self.0.subscribe();
            let _open = gate.wait_for(|open| *open).await;
        }
    }
}

/// How often the old cache is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(1);

impl Cache {
    /// Before anybody asks it: it waits for [`Cache::succeed`]. Changes are told to it from now on.
    pub fn wait_for(&self, old: &Self) {
        self.gate.0.send_replace(false);
        if old.feed.is_connected() {
            self.alive(now_ms());
        }
    }

    /// Takes the place of `old`, which nobody asks any more: once its writes have ended and what it deferred is saved.
    pub async fn succeed(&self, old: &Self) {
        loop {
            while old.flights.writes() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            match old.flush_all_deferred().await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "the reload waits: deferred writes of before cannot be saved"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        old.flush_all();
        self.gate.0.send_replace(true);
    }

    /// Takes the place of `old`, which nobody asks any more and whose store was never there: what it deferred waits here now,
    /// over what the journal held before.
    pub async fn inherit(&self, old: &Self) {
        while old.flights.writes() > 0 {
            tokio::time::sleep(LOOK).await;
        }
        for (mapping, key, entries) in old.overlay.take_all() {
            self.overlay.put(mapping, &key, &entries);
        }
        self.wake_flusher();
        self.gate.0.send_replace(true);
    }

    /// True when deferred writes of the mapping can be judged and journaled.
    #[must_use]
    pub fn takes_deferred(&self, id: usize) -> bool {
        self.journal.is_some() && self.cached(id).is_some_and(|cached| cached.mapping.config.defers())
    }

    /// Where deferred writes are kept, if some are.
    #[must_use]
    pub fn journal(&self) -> Option<Arc<Journal>> {
        self.journal.clone()
    }
}
