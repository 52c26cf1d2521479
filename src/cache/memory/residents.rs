//! How many entries of each mapping are in memory, and how many bytes they are. moka says when an entry has gone,
//! whatever the reason: that its TTL was over, or that memory is full, nobody else knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use moka::notification::RemovalCause;

use crate::cache::cause::Cause;
use crate::cache::entry::Entry;
use crate::cache::source::Cached;
use crate::cache::traces::KeyTraces;
use crate::keys::MappingId;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::MappingCounts;

/// The entries of all mappings, by the number of the mapping.
#[derive(Debug, Default)]
pub(super) struct Residents(Vec<Option<Resident>>);

/// Those of one.
#[derive(Debug)]
struct Resident {
    entries: AtomicI64,
    bytes: AtomicI64,
    counts: Arc<MappingCounts>,
    traces: Arc<KeyTraces>,
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
    /// Those of these mappings.
    pub(super) fn of<'c>(mappings: impl Iterator<Item = &'c Cached>) -> Self {
        let mut all = Vec::new();
        for cached in mappings {
            let id = cached.mapping().id.index();
            all.resize_with(all.len().max(id + 1), || None);
            let (counts, traces) = (cached.counts.clone(), cached.traces.clone());
            all[id] = Some(Resident { entries: AtomicI64::new(0), bytes: AtomicI64::new(0), counts, traces });
        }
        Self(all)
    }

    fn resident(&self, id: MappingId) -> Option<&Resident> {
        self.0.get(id.index())?.as_ref()
    }

    /// An entry is put into memory.
    pub(super) fn came(&self, key: &[u8], entry: &Entry) {
        if let Some(resident) = self.resident(entry.mapping) {
            resident.entries.fetch_add(1, Relaxed);
            resident.bytes.fetch_add(bytes(key, entry), Relaxed);
        }
    }

    /// An entry has gone.
    pub(super) fn went(&self, key: &[u8], entry: &Entry, cause: RemovalCause) {
        let Some(resident) = self.resident(entry.mapping) else { return };
        resident.entries.fetch_sub(1, Relaxed);
        resident.bytes.fetch_sub(bytes(key, entry), Relaxed);
        let now = Tick::now();
        match cause {
            RemovalCause::Size => {
                resident.counts.evicted();
                resident.traces.note(key, Cause::Evicted, now);
            }
            RemovalCause::Expired => resident.traces.note(key, Cause::Ttl, entry.expires_at().min(now)),
            // moka had not come to it yet.
            RemovalCause::Replaced if entry.is_expired(now) => {
                resident.traces.note(key, Cause::Ttl, entry.expires_at())
            }
            // Whoever does it says why.
            RemovalCause::Explicit | RemovalCause::Replaced => {}
        }
    }

    /// Those of one mapping.
    pub(super) fn room(&self, id: MappingId) -> Room {
        let read = |of: fn(&Resident) -> &AtomicI64| {
            self.resident(id).map_or(0, |resident| u64::try_from(of(resident).load(Relaxed)).unwrap_or(0))
        };
        Room { entries: read(|resident| &resident.entries), bytes: read(|resident| &resident.bytes) }
    }
}

/// What an entry counts: that of a key that is absent is bounded by number, and its bytes are not of records.
fn bytes(key: &[u8], entry: &Entry) -> i64 {
    if entry.record.is_some() { (key.len() + entry.weight()) as i64 } else { 0 }
}
