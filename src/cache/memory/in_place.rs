//! A row that the change feed brings takes the place of the record in memory, so that the next reader need not load
//! it. Where it is not certain that a load would make the same of the row, and that it is newer than all that was
//! answered, the key is forgotten, as at any change.
//!
//! Invariants:
//! - a record is replaced only by the row of a commit that nobody could see when the record was known already: then the
//!   record is older than the commit, because no later change of the row can have been seen before it either;
//! - changes of a key come in the order of their commits: what one of them left, the next may replace;
//! - nothing is put into memory while the key is loaded or written, where nothing was in memory, or where deferred
//!   writes wait.

use std::sync::Arc;

use super::Memory;
use crate::cache::cause::Cause;
use crate::cache::entry::Entry;
use crate::cache::source::Cached;
use crate::keys::MappingId;
use crate::record::Record;
use crate::store::RowChange;
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

/// A record that nobody has read for so many milliseconds is forgotten when it changes: rows that are only written do
/// not push out what is read.
const READ_WITHIN: u64 = 300_000;

impl Memory {
    /// Takes what a commit has left behind a key, unless it is a write of ours.
    pub(crate) fn changed_row(&self, id: MappingId, change: &RowChange, from: Option<&str>) {
        let (key, why) = (&change.key, || Cause::Change(Some(change.table().clone())));
        if self.is_own(key, from) {
            return;
        }
        self.tell_early(key);
        let left = self.source.cached(id).filter(|_| self.entries.has(key)).and_then(|cached| {
            // Before the plan, as for a load (`replanning.rs`).
            let epoch = cached.epoch();
            Some((cached, epoch, cached.current.plan().ok()?.left_by(change)?))
        });
        if self.is_heard() {
            self.expiries.doubt(key);
        }
        let forgotten = self.flights.replace(key, |is_quiet| {
            let next =
                left.filter(|_| is_quiet).and_then(|(cached, epoch, record)| self.next(cached, epoch, change, record));
            // It is gone before the next one is there: no thread still serves it when another serves that.
            let before = self.entries.remove(key);
            let Some(next) = next else { return before };
            self.metrics.replaced.inc();
            self.entries.put(key, &next);
            self.note_end(key, Some(&next));
            self.note(id, key, why());
            None
        });
        self.tracking.changed(key, None);
        match change.is_gone() {
            true => self.events.gone(key),
            false => self.events.changed(key),
        }
        if let Some(entry) = &forgotten {
            self.forgot(key, entry, why());
        }
    }

    /// The entry that takes the place of the one in memory, if one may.
    fn next(&self, cached: &Cached, epoch: u64, change: &RowChange, record: Option<Record>) -> Option<Arc<Entry>> {
        let (before, now) = (self.entries.get(&change.key)?, Tick::now());
        let is_older = before.was_known_before(change.unseen.number) || is_planted("older-row-taken");
        let is_current = before.epoch == epoch && before.mapping == cached.mapping().id && !before.is_expired(now);
        let is_wanted = before.was_read_within(READ_WITHIN, now);
        // Where not every change is told, a row may seem to be gone that is not.
        let is_certain = cached.current.is_watched() && self.overlay.of(&change.key).is_none();
        if !(is_older && is_current && is_wanted && is_certain) {
            return None;
        }
        let entry = cached.life.entry(record, before.mapping, epoch, change.unseen.at);
        let entry = entry.used_last_at(before.used_at());
        entry.is_known_at(0);
        Some(Arc::new(entry))
    }
}
