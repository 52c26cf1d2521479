//! The entries in memory: records in moka, bounded by weight, and absent keys in a second small cache, bounded by
//! number, so that a scan of random ids cannot push records out (hazard 11). The only door to moka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::residents::Residents;
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
    pub(super) residents: Arc<Residents>,
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
    pub(super) fn new(settings: &config::Cache, residents: Residents) -> Self {
        let residents = Arc::new(residents);
        let listening = || {
            let residents = residents.clone();
            move |key: Arc<Bytes>, entry: Arc<Entry>, cause| residents.went(&key, &entry, cause)
        };
        let present = Moka::builder()
            .max_capacity(settings.max_bytes.0 as u64)
            .weigher(weight)
            // Least recently used, so that what was just loaded is there for the next reader.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByDeadline)
            .eviction_listener(listening())
            .build_with_hasher(foldhash::quality::RandomState::default());
        let absent = Moka::builder()
            .max_capacity(settings.negative_entries)
            // A key may be as long as any value.
            .weigher(|key: &Bytes, _| u32::try_from(1 + key.len() / LONG_KEY).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByDeadline)
            .eviction_listener(listening())
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self { present, absent, versions: Versions::default(), residents }
    }

    /// The entry of `key`, unless it was taken out.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let is_there = |entry: &Arc<Entry>| !entry.is_taken() || is_planted("taken-entry-served");
        self.present.get(key).or_else(|| self.absent.get(key)).filter(is_there)
    }

    /// True when there is an entry of `key`, or the one that was taken out is still held.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.present.contains_key(key) || self.absent.contains_key(key)
    }

    /// Puts an entry among those of its kind, and leaves nothing of the key among the others.
    pub(super) fn put(&self, key: &Bytes, entry: &Arc<Entry>) {
        let (to, from) =
            if entry.record.is_some() { (&self.present, &self.absent) } else { (&self.absent, &self.present) };
        from.invalidate(key);
        entry.set_taken(false);
        self.residents.came(key, entry);
        to.insert(key.clone(), entry.clone());
        self.versions.raise(key);
    }

    /// Removes a key; its entry, if there was one.
    pub(super) fn remove(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let absent = if is_planted("negative-not-invalidated") { None } else { self.absent.remove(key) };
        let removed = self.present.remove(key).or(absent);
        self.versions.raise(key);
        removed.filter(|entry| !entry.is_taken())
    }

    /// Takes a key out: nobody is given its entry any more. moka goes on to hold it, because what comes next most often
    /// takes its place, and to remove it and put another one costs several times as much as that.
    pub(super) fn take(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let taken = self.get(key);
        if let Some(entry) = &taken {
            entry.set_taken(true);
        }
        self.versions.raise(key);
        taken
    }

    /// Puts the entry of a record that nobody is given yet in the place of the one that was taken out.
    pub(super) fn prepare(&self, key: &Bytes, entry: &Arc<Entry>) {
        entry.set_taken(true);
        self.residents.came(key, entry);
        self.present.insert(key.clone(), entry.clone());
    }

    /// What was prepared is there from now on, if it is still held.
    pub(super) fn show(&self, key: &[u8], prepared: &Entry) {
        prepared.set_taken(false);
        self.versions.raise(key);
    }

    /// Nothing comes in the place of what was taken out.
    pub(super) fn drop_taken(&self, key: &[u8]) {
        self.absent.invalidate(key);
        self.present.invalidate(key);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Bytes> {
        self.present.iter().chain(self.absent.iter()).map(|(key, _)| Bytes::clone(&key))
    }

    /// The keys that are there, with their records.
    pub(super) fn records(&self) -> impl Iterator<Item = (Bytes, Arc<Entry>)> {
        let entries = self.present.iter().filter(|(_, entry)| !entry.is_taken());
        entries.map(|(key, entry)| (Bytes::clone(&key), entry))
    }

    /// The most bytes of records.
    pub(super) fn most_bytes(&self) -> u64 {
        self.present.policy().max_capacity().unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Entries, Residents};
    use crate::cache::entry::{Entry, Span};
    use crate::config;
    use crate::keys::MappingId;
    use crate::record::Record;
    use crate::telemetry::clock::Tick;

    fn entry(text: Option<&str>) -> Arc<Entry> {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Span::new(&block, &config::Cache::default());
        let record = text.and_then(|text| Record::string(text.as_bytes()).ok());
        Arc::new(life.entry(record, MappingId::default(), 0, Tick::now()))
    }

    #[test]
    fn what_was_taken_out_is_given_to_nobody_until_something_takes_its_place() {
        let (entries, key) = (Entries::new(&config::Cache::default(), Residents::default()), Bytes::from("k:1"));
        let version = || entries.versions.of(entries.versions.hash(&key));
        for (before, after) in [(Some("a"), Some("b")), (None, Some("b")), (Some("a"), None), (None, None)] {
            let (before, after) = (entry(before), entry(after));
            entries.put(&key, &before);
            let seen = version();
            assert!(entries.take(&key).is_some_and(|taken| Arc::ptr_eq(&taken, &before)));
            assert!(version() > seen, "no thread serves it any more");
            assert!(entries.get(&key).is_none() && entries.take(&key).is_none() && entries.records().next().is_none());
            let seen = version();
            entries.put(&key, &after);
            assert!(entries.get(&key).is_some_and(|there| Arc::ptr_eq(&there, &after)) && version() > seen);
            // What was taken out may come back.
            entries.take(&key);
            entries.put(&key, &after);
            assert!(entries.get(&key).is_some_and(|there| Arc::ptr_eq(&there, &after)));
        }
        entries.put(&key, &entry(Some("a")));
        entries.take(&key);
        assert!(entries.remove(&key).is_none() && !entries.has(&key), "it was in memory for nobody");
    }

    #[test]
    fn what_is_prepared_is_given_to_nobody_until_it_is_shown() {
        let (entries, key, next) =
            (Entries::new(&config::Cache::default(), Residents::default()), Bytes::from("k:1"), entry(Some("b")));
        let version = || entries.versions.of(entries.versions.hash(&key));
        entries.put(&key, &entry(Some("a")));
        entries.take(&key);
        entries.prepare(&key, &next);
        assert!(entries.get(&key).is_none());
        let seen = version();
        entries.show(&key, &next);
        assert!(entries.get(&key).is_some_and(|there| Arc::ptr_eq(&there, &next)) && version() > seen);
        entries.take(&key);
        entries.prepare(&key, &entry(Some("c")));
        entries.drop_taken(&key);
        assert!(entries.get(&key).is_none() && !entries.has(&key), "the write has failed");
    }
}
