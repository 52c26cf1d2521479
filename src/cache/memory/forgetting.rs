//! Forgets what is in memory: one key, those of a glob, a mapping, everything.

use super::Memory;
use crate::cache::entry::Entry;
use crate::keys::{MappingId, glob_match};
use crate::telemetry::planted::is_planted;

impl Memory {
    /// Forgets `key`, whatever is being loaded for it. True when a record was in memory.
    pub(crate) fn invalidate(&self, key: &[u8]) -> bool {
        let forgotten = self.flights.detach(key, || self.entries.remove(key));
        if let Some(entry) = &forgotten {
            self.forgot(key, entry);
        }
        forgotten.is_some()
    }

    /// What was in memory of a key has been forgotten.
    pub(super) fn forgot(&self, key: &[u8], entry: &Entry) {
        if let Some(cached) = self.source.cached(entry.mapping) {
            cached.counts.invalidated();
        }
        self.refreshes.forgot(key, entry);
    }

    /// Takes `key` out of memory, so that its next reader loads it or waits for the load under way. Nothing has
    /// happened to the key: whoever watches it hears nothing.
    pub(crate) fn let_go(&self, key: &[u8]) {
        self.entries.remove(key);
    }

    /// Forgets every key that matches `glob`; the number of keys that were in memory.
    pub(crate) fn invalidate_matching(&self, glob: &[u8]) -> usize {
        let loading = self.flights.keys();
        let keys = self.entries.keys().chain(loading).filter(|key| glob_match(glob, key));
        keys.filter(|key| self.invalidate(key)).count()
    }

    /// Forgets a key that the change feed reports, unless it reports a write of ours.
    pub(crate) fn changed(&self, key: &[u8], from: Option<&str>) {
        if !self.is_own(key, from) {
            self.invalidate(key);
        }
    }

    /// True when something of `key` is in memory, or may be soon, that a change with this origin makes old. Else it is
    /// nowhere from then on: no thread serves it from its own cache either.
    pub(crate) fn keeps(&self, key: &[u8], from: Option<&str>) -> bool {
        if self.is_own(key, from) && from.is_some_and(|from| self.own_writes.has_ended(from)) {
            return false;
        }
        // What is loaded or written is in memory before that ends.
        let is_kept = self.flights.has(key) || self.entries.has(key);
        if !is_kept {
            self.entries.versions.raise(key);
        }
        is_kept
    }

    /// True of a change by a write of ours, which memory knows.
    pub(super) fn is_own(&self, key: &[u8], from: Option<&str>) -> bool {
        from.is_some_and(|from| self.own_writes.knows(from, key))
    }

    /// Forgets every key of mapping `id`: none of its entries may be served any more. What that costs does not depend
    /// on their number (hazard 37); their memory is given back by [`Memory::remove_outdated`].
    pub(crate) fn forget_mapping(&self, id: MappingId) {
        if let Some(cached) = self.source.cached(id) {
            cached.raise_epoch();
            cached.counts.invalidated();
            self.outdated.notify_one();
        }
    }

    /// Waits until a mapping has been forgotten since the last time this returned.
    pub(crate) async fn forgot_a_mapping(&self) {
        self.outdated.notified().await;
    }

    /// Gives back the memory of every entry whose mapping has been forgotten since it was loaded.
    pub(crate) fn remove_outdated(&self) {
        let is_current = |entry: &Entry| self.source.cached(entry.mapping).is_some_and(|c| c.epoch() == entry.epoch);
        self.entries.remove_outdated(|entry| !is_current(entry));
    }

    /// Forgets every key.
    pub(crate) fn forget_all(&self) {
        if is_planted("no-flush-on-gap") {
            return;
        }
        for cached in self.source.all() {
            cached.raise_epoch();
            cached.counts.invalidated();
        }
        self.entries.clear();
    }
}
