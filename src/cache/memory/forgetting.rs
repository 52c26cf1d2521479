//! Forgets what is in memory: one key, those of a glob, a mapping, everything. Why is noted, for whoever asks later.

use super::Memory;
use crate::cache::cause::Cause;
use crate::cache::entry::Entry;
use crate::keys::{MappingId, begin_alike, glob_match, literal_beginning};
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

impl Memory {
    /// Forgets `key`, whatever is being loaded for it. True when a record was in memory.
    pub(crate) fn invalidate(&self, key: &[u8], why: Cause) -> bool {
        let forgotten = self.flights.detach(key, || self.entries.remove(key));
        self.tracking.changed(key, why.client());
        if why.is_news() && self.is_heard() {
            self.expiries.doubt(key);
            self.events.changed(key);
        }
        if let Some(entry) = &forgotten {
            self.forgot(key, entry, why);
        }
        forgotten.is_some_and(|entry| entry.record.is_some())
    }

    /// What was in memory of a key has been forgotten.
    pub(super) fn forgot(&self, key: &[u8], entry: &Entry, why: Cause) {
        let (Some(cached), now) = (self.source.cached(entry.mapping), Tick::now()) else { return };
        tracing::debug!(
            mapping = cached.name(),
            key = %String::from_utf8_lossy(key),
            cause = why.name(),
            "what was in memory of a key is forgotten"
        );
        cached.counts.invalidated();
        self.metrics.top.forgot(key, now);
        match entry.is_expired(now) {
            true => cached.traces.note(key, Cause::Ttl, entry.expires_at()),
            // What is out of date was forgotten with its mapping.
            false if entry.epoch == cached.epoch() => cached.traces.note(key, why, now),
            false => {}
        }
        if entry.record.is_some() {
            self.refreshes.forgot(key, entry);
        }
    }

    /// Takes `key` out of memory, so that its next reader loads it or waits for the load under way. Nothing has
    /// happened to the key: whoever watches it hears nothing.
    pub(crate) fn let_go(&self, id: MappingId, key: &[u8]) {
        if self.flights.hold(key, || self.entries.remove(key)).is_some() {
            self.note(id, key, Cause::Command("WATCH"));
        }
    }

    /// Notes what has happened to a key.
    pub(super) fn note(&self, id: MappingId, key: &[u8], why: Cause) {
        if let Some(cached) = self.source.cached(id) {
            cached.traces.note(key, why, Tick::now());
        }
    }

    /// Forgets every key that matches `glob`; the number of keys that were in memory.
    pub(crate) fn invalidate_matching(&self, glob: &[u8], why: &Cause) -> usize {
        let loading = self.flights.keys();
        let keys = self.entries.keys().chain(loading).filter(|key| glob_match(glob, key));
        let count = keys.filter(|key| self.invalidate(key, why.clone())).count();
        // Somebody may keep what was in memory once.
        for pattern in self.source.all().map(|cached| &cached.mapping().pattern) {
            let (ours, theirs) = (pattern.begin(), literal_beginning(glob));
            if begin_alike(ours, theirs) {
                let begin = if ours.len() > theirs.len() { ours } else { theirs };
                self.tracking.changed_where(begin, |key| pattern.matches(key) && glob_match(glob, key));
            }
        }
        self.misses_events();
        count
    }

    /// Forgets a key that the change feed reports, unless it reports a write of ours.
    pub(crate) fn changed(&self, key: &[u8], from: Option<&str>) {
        if !self.is_own(key, from) {
            self.tell_early(key);
            self.flights.written.changed(key);
            self.invalidate(key, Cause::Change(None));
        }
    }

    /// True when something of `key` is in memory, or may be soon, that a change with this origin makes old. Else it is
    /// nowhere from then on: no thread serves it from its own cache either.
    pub(crate) fn keeps(&self, key: &[u8], from: Option<&str>) -> bool {
        if self.is_own(key, from) && from.is_some_and(|from| self.own_writes.has_ended(from)) {
            return false;
        }
        self.flights.written.changed(key);
        // What is loaded or written is in memory before that ends.
        let is_heard_of = self.tracking.has(key) || !self.events.is_idle();
        let is_kept = self.flights.has(key) || self.entries.has(key) || is_heard_of;
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
    pub(crate) fn forget_mapping(&self, id: MappingId, why: Cause) {
        if let Some(cached) = self.source.cached(id) {
            cached.raise_epoch(why);
            self.outdated.notify_one();
            self.misses_events();
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

    /// Forgets every key: something that nobody knows has changed, or has perhaps changed while nobody told.
    pub(crate) fn forget_all(&self) {
        if !is_planted("no-flush-on-gap") {
            self.clear();
            self.tracking.everything();
            self.misses_events();
        }
    }

    /// Forgets every key, of which nobody is told.
    pub(crate) fn clear(&self) {
        let why = match (self.feed.is_connected(), self.feed.has_begun()) {
            (true, _) => Cause::StoreChanged,
            (false, true) => Cause::Gap,
            (false, false) => Cause::Start,
        };
        self.source.all().for_each(|cached| cached.pass_epoch(why.clone()));
        self.entries.clear();
    }
}
