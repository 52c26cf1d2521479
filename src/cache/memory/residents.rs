//! How many entries of each mapping are in memory, and how many bytes they are. moka says when one has gone, whatever
//! the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use moka::notification::RemovalCause;

use crate::cache::entry::Entry;
use crate::keys::MappingId;
use crate::telemetry::metrics::MappingCounts;

/// The entries of all mappings, by the number of the mapping.
#[derive(Debug, Default)]
pub(super) struct Residents(Vec<Resident>);

/// Those of one.
#[derive(Debug, Default)]
struct Resident {
    entries: AtomicI64,
    bytes: AtomicI64,
    counts: Arc<MappingCounts>,
}

/// The entries of one mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Keys in memory, absent ones included.
    pub entries: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Residents {
    /// Those of these mappings, with what is counted of each.
    pub(super) fn of(mappings: impl Iterator<Item = (MappingId, Arc<MappingCounts>)>) -> Self {
        let mut all = Vec::new();
        for (id, counts) in mappings {
            all.resize_with(all.len().max(id.index() + 1), Resident::default);
            all[id.index()] = Resident { counts, ..Resident::default() };
        }
        Self(all)
    }

    /// An entry is put into memory.
    pub(super) fn came(&self, key: &[u8], entry: &Entry) {
        if let Some(resident) = self.0.get(entry.mapping.index()) {
            resident.entries.fetch_add(1, Relaxed);
            resident.bytes.fetch_add(bytes(key, entry), Relaxed);
        }
    }

    /// An entry has gone.
    pub(super) fn went(&self, key: &[u8], entry: &Entry, cause: RemovalCause) {
        if let Some(resident) = self.0.get(entry.mapping.index()) {
            resident.entries.fetch_sub(1, Relaxed);
            resident.bytes.fetch_sub(bytes(key, entry), Relaxed);
            if cause == RemovalCause::Size {
                resident.counts.evicted();
            }
        }
    }

    /// Those of one mapping.
    pub(super) fn room(&self, id: MappingId) -> Room {
        let read = |of: fn(&Resident) -> &AtomicI64| {
            self.0.get(id.index()).map_or(0, |resident| u64::try_from(of(resident).load(Relaxed)).unwrap_or(0))
        };
        Room { entries: read(|resident| &resident.entries), bytes: read(|resident| &resident.bytes) }
    }
}

/// What an entry counts: that of a key that is absent is bounded by number, and its bytes are not of records.
fn bytes(key: &[u8], entry: &Entry) -> i64 {
    if entry.record.is_some() { (key.len() + entry.weight()) as i64 } else { 0 }
}
