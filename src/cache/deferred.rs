//! Deferred writes as the rest of the program sees them: what a start replays, and what a stop saves.

use std::sync::Arc;

use super::{Cache, source};
use crate::journal::{self, Journal};
use crate::keys::MappingId;
use crate::store::StoreError;

impl Cache {
    /// Where deferred writes are kept, if some are.
    #[must_use]
    pub fn journal(&self) -> Option<Arc<Journal>> {
        self.write_behind.journal.clone()
    }

    /// True when deferred writes of the mapping can be judged and journaled.
    #[must_use]
    pub fn takes_deferred(&self, id: MappingId) -> bool {
        let defers = |cached: &source::Cached| cached.block().defers();
        self.write_behind.journal.is_some() && self.memory.source.cached(id).is_some_and(defers)
    }

    /// Notes in the journal which columns deferred writes go to: a start without the store judges them by that.
    pub async fn remember_columns(&self) {
        self.write_behind.remember_columns().await;
    }

    /// Replays what a journal held: it lies over every record from now on.
    pub fn replay(&self, id: MappingId, entries: Vec<journal::Entry>) {
        self.write_behind.replay(id, entries);
    }

    /// Keeps what a journal held for mappings that are not configured, until a reload configures them.
    pub fn keep(&self, entries: Vec<journal::Entry>) {
        self.write_behind.keep(entries);
    }

    /// Shows how many keys have something that waits.
    pub fn count_waiting(&self) {
        self.write_behind.count_waiting();
    }

    /// Counts keys whose deferred writes were put aside.
    pub fn count_put_aside(&self, keys: usize) {
        self.write_behind.metrics.put_aside.inc_by(keys as u64);
    }

    /// The store has these entries: nothing of them lies over a record any more.
    pub fn forget_applied(&self, entries: &[journal::Entry]) {
        self.write_behind.forget_kept(entries);
        entries.iter().for_each(|entry| self.memory.settle(&entry.key, std::slice::from_ref(entry), None));
    }

    /// The store never gets these entries: their keys are forgotten.
    pub fn give_up(&self, entries: &[journal::Entry]) {
        self.write_behind.forget_kept(entries);
        entries.iter().for_each(|entry| self.memory.give_up(&entry.key, std::slice::from_ref(entry)));
    }

    /// True while something waits for the store.
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        self.memory.overlay.len() > 0
    }

    /// How many keys have something that waits for the store.
    #[must_use]
    pub fn count_deferred(&self) -> usize {
        self.write_behind.waiting()
    }

    /// Saves everything that waits, for the last time: rows that rest are tried, too. What comes meanwhile is for the
    /// next start.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub async fn flush_all_deferred(&self) -> Result<(), StoreError> {
        self.write_behind.flush_all_deferred().await
    }
}
