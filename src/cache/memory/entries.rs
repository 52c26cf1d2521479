//! The entries in memory: records in moka, bounded by weight, and absent keys in a second small cache, bounded by
//! number, so that a scan of random ids cannot push records out (hazard 11). The only door to moka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::versions::Versions;
use crate::cache::entry::Entry;
use crate::config;
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

type Kept = Moka<Bytes, Arc<Entry>, foldhash::quality::RandomState>;

/// An absent key counts as one more for each so many bytes.
const LONG_KEY: usize = 256;

#[derive(Debug)]
pub(super) struct Entries {
    present: Kept,
    absent: Kept,
    /// Raised by whatever changes what a key holds here; not by what moka lets go, which is as true as before.
    pub(super) versions: Versions,
}

/// Reclaims what expired. Whether an entry may be served is decided by the entry itself.
struct ByDeadline;

impl Expiry<Bytes, Arc<Entry>> for ByDeadline {
    fn expire_after_create(&self, _: &Bytes, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        entry.kept(Tick::now())
    }

    fn expire_after_update(&self, _: &Bytes, entry: &Arc<Entry>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        entry.kept(Tick::now())
    }

    /// A read may be about to renew the entry: moka must not let it go before that renewal ends.
    fn expire_after_read(
        &self,
        _: &Bytes,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        entry.worth_keeping(Tick::now())
    }
}

fn weight(key: &Bytes, entry: &Arc<Entry>) -> u32 {
    u32::try_from(key.len() + entry.weight()).unwrap_or(u32::MAX)
}

impl Entries {
    pub(super) fn new(settings: &config::Cache) -> Self {
        let present = Moka::builder()
            .max_capacity(settings.max_bytes.0 as u64)
            .weigher(weight)
            // Least recently used, so that what was just loaded is there for the next reader.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByDeadline)
            .build_with_hasher(foldhash::quality::RandomState::default());
        let absent = Moka::builder()
            .max_capacity(settings.negative_entries)
            // A key may be as long as any value.
            .weigher(|key: &Bytes, _| u32::try_from(1 + key.len() / LONG_KEY).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByDeadline)
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self { present, absent, versions: Versions::default() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.present.get(key).or_else(|| self.absent.get(key))
    }

    /// True when there is an entry of `key`.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.present.contains_key(key) || self.absent.contains_key(key)
    }

    /// Puts an entry among those of its kind, and leaves nothing of the key among the others.
    pub(super) fn put(&self, key: &Bytes, entry: &Arc<Entry>) {
        let (to, from) =
            if entry.record.is_some() { (&self.present, &self.absent) } else { (&self.absent, &self.present) };
        from.invalidate(key);
        to.insert(key.clone(), entry.clone());
        self.versions.raise(key);
    }

    /// Removes a key; the entry of its record, if there was one.
    pub(super) fn remove(&self, key: &[u8]) -> Option<Arc<Entry>> {
        if !is_planted("negative-not-invalidated") {
            self.absent.invalidate(key);
        }
        let removed = self.present.remove(key);
        self.versions.raise(key);
        removed
    }

    /// Takes a key out.
    pub(super) fn take(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let taken = self.absent.remove(key).or_else(|| self.present.remove(key));
        self.versions.raise(key);
        taken
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Bytes> {
        self.present.iter().chain(self.absent.iter()).map(|(key, _)| Bytes::clone(&key))
    }

    /// The keys that are there, with their records.
    pub(super) fn records(&self) -> impl Iterator<Item = (Bytes, Arc<Entry>)> {
        self.present.iter().map(|(key, entry)| (Bytes::clone(&key), entry))
    }

    /// The bytes of the records, as they were when moka last looked.
    pub(super) fn bytes(&self) -> u64 {
        self.present.weighted_size()
    }

    pub(super) fn clear(&self) {
        self.present.invalidate_all();
        self.absent.invalidate_all();
    }

    /// Gives back the memory of entries that are out of date. It looks at every entry.
    pub(super) fn remove_outdated(&self, is_outdated: impl Fn(&Entry) -> bool) {
        for kept in [&self.present, &self.absent] {
            for (key, _) in kept.iter().filter(|(_, entry)| is_outdated(entry)) {
                kept.invalidate(&*key);
                self.versions.raise(&key);
            }
        }
    }

    /// Runs what moka put off; entries and bytes kept.
    pub(super) fn tidy(&self) -> (u64, u64) {
        self.present.run_pending_tasks();
        self.absent.run_pending_tasks();
        (self.present.entry_count() + self.absent.entry_count(), self.present.weighted_size())
    }
}
