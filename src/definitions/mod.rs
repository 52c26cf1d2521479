//! Definitions: immutable tables of records, all in memory. The next version is a reload of a mapping (`reload`), or
//! what one commit has changed in it (`rows`). A command takes one snapshot and sees one version; a reload that fails
//! keeps the last good one (C6).

mod reload;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

pub use reload::{DefinitionSource, Reloader};

use crate::key_events::KeyEvents;
use crate::keys::MappingId;
use crate::record::{Record, Table};
use crate::telemetry::clock::Tick;
use crate::tracking::{Reader, Tracking};

/// One version of all definitions, by mapping; definitions come first in the list of mappings.
#[derive(Debug, Default)]
pub struct Snapshot {
    sets: Vec<Option<Arc<Set>>>,
}

/// The definitions of one mapping.
#[derive(Debug)]
struct Set {
    table: Arc<Table>,
    /// When the table began to be read, and when this version of it was there.
    begun: Instant,
    came: Instant,
    /// What has become of these keys since; none: it is no definition any more.
    changed: HashMap<Bytes, Option<Arc<Record>>>,
    /// How many looks at what is visible in the store had begun when the table was known.
    known_at: u64,
    /// Its keys in their order, from the first time that it is asked for.
    ordered: Arc<OnceLock<Vec<Bytes>>>,
}

impl Set {
    /// A table that began to be read then.
    fn read(table: Table, begun: Instant, known_at: u64) -> Self {
        let (table, came) = (Arc::new(table), Instant::now());
        Self { table, begun, came, changed: HashMap::new(), known_at, ordered: Arc::default() }
    }

    fn ordered(&self) -> &[Bytes] {
        self.ordered.get_or_init(|| {
            let mut keys: Vec<Bytes> = self.keys().map(Bytes::copy_from_slice).collect();
            keys.sort_unstable();
            keys
        })
    }

    fn get(&self, key: &[u8]) -> Option<&Record> {
        match self.changed.get(key) {
            Some(record) => record.as_deref(),
            None => self.table.get(key),
        }
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let untouched = self.table.keys().map(|key| &**key).filter(|key| !self.changed.contains_key(*key));
        untouched.chain(self.changed.iter().filter(|(_, record)| record.is_some()).map(|(key, _)| &**key))
    }

    fn count(&self) -> usize {
        if self.changed.is_empty() { self.table.len() } else { self.keys().count() }
    }

    /// The next version, in which this has become of some keys.
    fn with(&self, rows: &rows::Rows) -> Self {
        let has_same_keys = rows.iter().all(|(key, record)| self.get(key).is_some() == record.is_some());
        let mut changed = self.changed.clone();
        changed.extend(rows.iter().cloned());
        let ordered = if has_same_keys { self.ordered.clone() } else { Arc::default() };
        let (table, begun, known_at) = (self.table.clone(), self.begun, self.known_at);
        Self { table, begun, came: Instant::now(), changed, known_at, ordered }
    }
}

impl Snapshot {
    /// The record of `key` in mapping `id`; `None` when there is no such definition.
    #[must_use]
    pub fn get(&self, id: MappingId, key: &[u8]) -> Option<&Record> {
        self.set(id)?.get(key)
    }

    fn set(&self, id: MappingId) -> Option<&Arc<Set>> {
        self.sets.get(id.index())?.as_ref()
    }

    /// How many keys mapping `id` has.
    #[must_use]
    pub fn count(&self, id: MappingId) -> usize {
        self.set(id).map_or(0, |set| set.count())
    }

    /// The keys of mapping `id`, in no order.
    pub fn keys(&self, id: MappingId) -> impl Iterator<Item = &[u8]> {
        self.set(id).into_iter().flat_map(|set| set.keys())
    }

    /// The keys of mapping `id` behind `key`, in their order. The order is the same in every version: an iteration that
    /// goes on in the next version misses nothing that is in both.
    pub fn keys_after(&self, id: MappingId, key: Option<&Bytes>) -> impl Iterator<Item = &Bytes> {
        let ordered = self.set(id).map_or(&[][..], |set| set.ordered());
        let from = key.map_or(0, |key| ordered.partition_point(|other| other <= key));
        ordered[from..].iter()
    }
}

/// The current version.
#[derive(Debug, Default)]
pub struct Definitions {
    current: ArcSwap<Snapshot>,
    /// Mappings that have never been loaded, and why.
    unloaded: ArcSwap<BTreeMap<MappingId, String>>,
    /// True while there are some.
    lacks_some: AtomicBool,
    /// Who keeps keys, and is told when they change.
    tracking: Arc<Tracking>,
    /// Who is told that they have changed.
    events: Arc<KeyEvents>,
}

impl Definitions {
    /// No version yet; these are told of changes.
    #[must_use]
    pub fn telling(tracking: Arc<Tracking>, events: Arc<KeyEvents>) -> Self {
        Self { tracking, events, ..Self::default() }
    }

    /// A client that tracks is given a definition by this version. Whether that is still what the next one would be
    /// given is looked at when the client is among those who are told: else it is told at once.
    pub fn reads(&self, reader: &Reader, id: MappingId, key: &[u8], version: &Snapshot) {
        reader.reads(key, Tick::NEVER, || 0);
        if self.snapshot().get(id, key) != version.get(id, key) {
            reader.forgets(key);
        }
    }

    /// Tells those who keep keys, or are subscribed to their events, which of them are not what they were. That they
    /// are read for the first time is no event.
    fn tell(&self, before: Option<&Set>, after: &Set) {
        if self.tracking.is_idle() && self.events.is_idle() {
            return;
        }
        let was = |key: &[u8]| before.and_then(|set| set.get(key));
        let gone = before.into_iter().flat_map(Set::keys).filter(|key| after.get(key).is_none());
        let changed = after.keys().filter(|key| was(key) != after.get(key));
        for key in gone.chain(changed) {
            self.tracking.changed(key, None);
            if before.is_some() {
                self.tell_event(key, after.get(key).is_some());
            }
        }
    }

    fn tell_event(&self, key: &[u8], is_there: bool) {
        if is_there { self.events.changed(key) } else { self.events.gone(key) }
    }

    /// The current version, to be held for one command.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Puts a new version in the place of mapping `id`'s.
    fn swap(&self, id: MappingId, set: Set) {
        self.set(id, &Arc::new(set));
    }

    fn set(&self, id: MappingId, set: &Arc<Set>) {
        let before = self.current.rcu(|old| {
            let mut sets = old.sets.clone();
            sets.resize_with(sets.len().max(id.index() + 1), || None);
            sets[id.index()] = Some(set.clone());
            Snapshot { sets }
        });
        self.tell(before.set(id).map(|set| &**set), set);
        self.note_unloaded(|unloaded| drop(unloaded.remove(&id)));
    }

    /// Takes for mapping `id` what `others` have for their mapping `theirs`, if they have it.
    fn take(&self, id: MappingId, others: &Self, theirs: MappingId) {
        if let Some(set) = others.current.load().set(theirs) {
            self.set(id, set);
        }
    }

    /// True if what there is of mapping `id` was read behind all that `others` have shown of their mapping `theirs`.
    fn is_behind(&self, id: MappingId, others: &Self, theirs: MappingId) -> bool {
        let (own, others) = (self.current.load(), others.current.load());
        own.set(id).is_some_and(|own| others.set(theirs).is_none_or(|shown| shown.came < own.begun))
    }

    /// Mapping `id` cannot be loaded: if it never was, its keys are answered with this reason.
    fn lacks(&self, id: MappingId, why: &str) {
        if !self.has(id) {
            self.note_unloaded(|unloaded| drop(unloaded.insert(id, why.to_owned())));
        }
    }

    /// True when mapping `id` has been loaded.
    fn has(&self, id: MappingId) -> bool {
        self.current.load().set(id).is_some()
    }

    fn note_unloaded(&self, change: impl Fn(&mut BTreeMap<MappingId, String>)) {
        self.unloaded.rcu(|unloaded| {
            let mut unloaded = BTreeMap::clone(unloaded);
            change(&mut unloaded);
            unloaded
        });
        self.lacks_some.store(!self.unloaded.load().is_empty(), SeqCst);
    }

    /// True while some mapping has never been loaded.
    #[inline]
    pub fn lacks_some(&self) -> bool {
        self.lacks_some.load(Relaxed)
    }

    /// Why mapping `id` has never been loaded, if so.
    #[must_use]
    pub fn unloaded(&self, id: MappingId) -> Option<String> {
        self.unloaded.load().get(&id).cloned()
    }

    /// Forgets them all: others have taken their place.
    pub fn clear(&self) {
        self.current.store(Arc::default());
    }

    /// Definitions in memory.
    fn count(&self) -> usize {
        self.current.load().sets.iter().flatten().map(|set| set.count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Definitions, MappingId, Set};

    fn read(begun: Instant) -> Set {
        Set::read(Default::default(), begun, 0)
    }

    #[test]
    fn what_was_read_behind_what_others_have_shown_is_known() {
        let (old, new, id) = (Definitions::default(), Definitions::default(), MappingId::new(0));
        assert!(!new.is_behind(id, &old, id), "there is nothing");
        let before = Instant::now();
        new.swap(id, read(before));
        assert!(new.is_behind(id, &old, id), "the others have shown nothing");
        old.swap(id, read(before));
        assert!(!new.is_behind(id, &old, id), "the others were still reading when it began to be read");
        new.swap(id, read(Instant::now() + Duration::from_nanos(1)));
        assert!(new.is_behind(id, &old, id));
    }

    #[test]
    fn definitions_that_are_taken_over_are_the_very_same() {
        let (old, new) = (Definitions::default(), Definitions::default());
        let id = MappingId::new;
        old.swap(id(1), read(Instant::now()));
        new.swap(id(0), read(Instant::now()));
        new.take(id(0), &old, id(1));
        new.take(id(2), &old, id(7));
        let (before, after) = (old.snapshot(), new.snapshot());
        let [Some(theirs), Some(ours)] = [before.set(id(1)), after.set(id(0))] else { panic!("both are there") };
        assert!(Arc::ptr_eq(theirs, ours));
        assert_eq!(new.snapshot().sets.len(), 1, "what the others do not have is not taken");
    }
}
