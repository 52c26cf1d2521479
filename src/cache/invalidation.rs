//! What a cache is told of changes, by the change feed and by commands: it forgets keys, and knows whether changes may
//! be missed.

use super::{Cache, Cause};
use crate::keys::MappingId;
use crate::store::RowChange;
use crate::telemetry::clock::Tick;

impl Cache {
    /// Forgets `key`, whatever is being loaded for it. True when a record was in memory.
    pub fn invalidate(&self, key: &[u8], why: Cause) -> bool {
        self.memory.invalidate(key, why)
    }

    /// Forgets every key that matches `glob`; the number of keys that were in memory.
    pub fn invalidate_matching(&self, glob: &[u8], why: &Cause) -> usize {
        self.memory.invalidate_matching(glob, why)
    }

    /// Forgets a key that the change feed reports, unless it reports a write of ours.
    pub fn changed(&self, key: &[u8], from: Option<&str>) {
        self.memory.changed(key, from);
    }

    /// Takes what a commit has left behind a key of mapping `id`, unless it is a write of ours; forgets the key where
    /// that is not certain to be newer than what is in memory.
    pub fn changed_row(&self, id: MappingId, change: &RowChange, from: Option<&str>) {
        self.memory.changed_row(id, change, from);
    }

    /// True when something of `key` is in memory, or may be soon, that a change with this origin makes old.
    #[must_use]
    pub fn keeps(&self, key: &[u8], from: Option<&str>) -> bool {
        self.memory.keeps(key, from)
    }

    /// True when a write of ours has this origin, and has been answered.
    #[must_use]
    pub fn has_ended(&self, from: &str) -> bool {
        self.memory.own_writes.has_ended(from)
    }

    /// Forgets every key of mapping `id`.
    pub fn flush(&self, id: MappingId, why: Cause) {
        self.memory.forget_mapping(id, why);
    }

    /// A reload has brought these mappings: memory is empty for that reason.
    pub fn is_reloaded(&self) {
        self.memory.source.all().for_each(|cached| cached.traces.note_all(Cause::Reload));
    }

    /// Forgets every key.
    pub fn flush_all(&self) {
        self.memory.forget_all();
    }

    /// A gap begins: changes may be missed. What is in memory was true a moment ago and is served until it is older
    /// than `max_staleness`; whoever ends the gap calls [`Cache::flush_all`] before [`Cache::alive`].
    pub fn lost(&self) {
        self.memory.lost();
    }

    /// Every change up to `as_of` has been applied.
    pub fn alive(&self, as_of: Tick) {
        self.memory.alive(as_of);
    }
}
