//! The overlay: deferred writes that the store does not have yet. They are applied to every record that is loaded
//! (hazard 12).
//!
//! Invariant: an entry is here from before it is acknowledged until after the store has applied it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::journal::{Change, Entry};
use crate::keys::MappingId;
use crate::record::Record;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::planted::is_planted;

#[derive(Debug, Default)]
pub(crate) struct Overlay {
    keys: Mutex<Waiting>,
    /// Keys in the map: most loads look no further.
    count: AtomicUsize,
}

/// What waits, by key.
pub(super) type Waiting = HashMap<Bytes, Dirty, foldhash::quality::RandomState>;

/// Keys with what waits for them.
pub(crate) type Rows = Vec<(Bytes, Vec<Entry>)>;

/// One key's fields that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) mapping: MappingId,
    pub(crate) entries: Vec<Entry>,
}

impl Dirty {
    /// The number of the oldest change that waits.
    pub(super) fn age(&self) -> u64 {
        self.entries.iter().map(|entry| entry.seq).min().unwrap_or(u64::MAX)
    }

    /// One more change; a field's newer value replaces the older.
    fn add(&mut self, entry: Entry) {
        self.entries.retain(|known| !entry.change.replaces(&known.change));
        self.entries.push(entry);
    }

    /// True when everything that waits here waits there, too, or something newer in its place.
    pub(super) fn is_within(&self, other: Option<&Self>) -> bool {
        let there = other.map_or(&[][..], |other| &other.entries);
        self.entries.iter().all(|entry| there.iter().any(|one| one.change.replaces(&entry.change)))
    }

    /// The record with these fields over it, and with the end that waits in place of its own. A row that is not there
    /// stays absent; what has ended is told too.
    fn over(&self, record: Option<Record>) -> Option<Record> {
        let fields: Vec<(&[u8], Option<&[u8]>)> =
            fields_of(&self.entries).map(|(name, value)| (&**name, value.map(|value| &**value))).collect();
        let record = if fields.is_empty() { record? } else { record?.with(&fields)? };
        let left = left_of(&self.entries).unwrap_or(record.left);
        Some(record.living(left))
    }
}

/// The record with what waits over it, if something does; what has ended is told too.
pub(super) fn laid_over(waiting: Option<Dirty>, record: Option<Record>) -> Option<Record> {
    match waiting {
        Some(dirty) => dirty.over(record),
        None => record,
    }
}

/// The same; `None` where that has ended. The store tells what has ended too, so that this is the one place where it is
/// decided.
pub(super) fn living(waiting: Option<Dirty>, record: Option<Record>) -> Option<Record> {
    laid_over(waiting, record).filter(|record| !record.has_ended())
}

/// The fields that wait and what they become; `None`: a field goes.
pub(crate) fn fields_of(entries: &[Entry]) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
    entries.iter().filter_map(|entry| match &entry.change {
        Change::Field(name, value) => Some((name, value.as_ref())),
        Change::Expiry(_) => None,
    })
}

/// The milliseconds until the key expires, if its expiry waits; `Some(None)`: it does not expire.
pub(crate) fn left_of(entries: &[Entry]) -> Option<Option<i64>> {
    Some(end_of(entries)?.map(|at| at.since(UnixMs::now())))
}

/// When the key expires, if that waits; `Some(None)`: it does not.
pub(crate) fn end_of(entries: &[Entry]) -> Option<Option<UnixMs>> {
    entries.iter().find_map(|entry| match entry.change {
        Change::Expiry(at) => Some(at),
        Change::Field(..) => None,
    })
}

impl Overlay {
    pub(super) fn keys(&self) -> MutexGuard<'_, Waiting> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for `key`.
    pub(crate) fn of(&self, key: &[u8]) -> Option<Dirty> {
        if self.count.load(SeqCst) == 0 || is_planted("no-overlay") { None } else { self.keys().get(key).cloned() }
    }

    /// The record with what waits over it; `None` where that has ended.
    pub(crate) fn over(&self, key: &[u8], record: Option<Record>) -> Option<Record> {
        living(self.of(key), record)
    }

    /// Whether a key lives by an end that waits; `None`: none does.
    pub(crate) fn lives(&self, key: &[u8]) -> Option<bool> {
        let left = self.of(key).and_then(|dirty| left_of(&dirty.entries))?;
        Some(left.is_none_or(|left| left > 0))
    }

    /// Adds what has been journaled; a field's newer value replaces the older.
    pub(crate) fn put(&self, mapping: MappingId, key: &Bytes, entries: &[Entry]) {
        let mut keys = self.keys();
        let dirty = keys.entry(key.clone()).or_insert_with(|| Dirty { mapping, entries: Vec::new() });
        entries.iter().for_each(|entry| dirty.add(entry.clone()));
        self.count.store(keys.len(), SeqCst);
    }

    /// The same of one change each of many keys.
    pub(crate) fn put_each(&self, changes: impl Iterator<Item = (MappingId, Entry)>) {
        let mut keys = self.keys();
        for (mapping, entry) in changes {
            let dirty = keys.entry(entry.key.clone()).or_insert_with(|| Dirty { mapping, entries: Vec::new() });
            dirty.add(entry);
        }
        self.count.store(keys.len(), SeqCst);
    }

    /// Removes what has been applied, or put aside; newer values of the same fields stay.
    pub(crate) fn settle(&self, key: &[u8], applied: &[Entry]) {
        let mut keys = self.keys();
        if let Some(dirty) = keys.get_mut(key) {
            dirty.entries.retain(|entry| applied.iter().all(|done| done.seq != entry.seq));
            if dirty.entries.is_empty() {
                keys.remove(key);
            }
        }
        self.count.store(keys.len(), SeqCst);
    }

    /// Everything that waits.
    pub(crate) fn all(&self) -> Vec<(Bytes, Dirty)> {
        self.keys().iter().map(|(key, dirty)| (key.clone(), dirty.clone())).collect()
    }

    /// The number of keys that wait.
    pub(crate) fn len(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// The mappings for which something waits.
    pub(crate) fn mappings(&self) -> HashSet<MappingId> {
        self.keys().values().map(|dirty| dirty.mapping).collect()
    }

    /// The keys of a mapping whose expiry waits.
    pub(crate) fn expiring(&self, mapping: MappingId) -> Vec<Bytes> {
        let ends = |dirty: &&Dirty| dirty.mapping == mapping && left_of(&dirty.entries).is_some();
        self.keys().iter().filter(|(_, dirty)| ends(dirty)).map(|(key, _)| key.clone()).collect()
    }

    /// True when the expiry of a key of a mapping waits, and has waited since before `until`.
    pub(crate) fn expires_since(&self, mapping: MappingId, until: u64) -> bool {
        let is_old = |entry: &Entry| entry.seq < until && matches!(entry.change, Change::Expiry(_));
        self.keys().values().any(|dirty| dirty.mapping == mapping && dirty.entries.iter().any(is_old))
    }

    /// One more than the number of the newest change that waits.
    pub(crate) fn upcoming(&self) -> u64 {
        self.keys().values().flat_map(|dirty| &dirty.entries).map(|entry| entry.seq + 1).max().unwrap_or_default()
    }
}
