//! The latest hits of one worker thread, which are served without a lock, a reference count or another thread.
//! docs/decisions/0009 has the measurement that justifies it beside moka.
//!
//! Invariants:
//! - an entry is served only while its key's version is the one that was read before the entry was looked up: whatever
//!   replaces or removes the entry raises the version before that is acknowledged (`versions.rs`);
//! - whether an entry may be served is asked again each time (its TTL, its epoch, how far the feed vouches);
//! - now and then a hit asks [`Entries`](super::entries::Entries) instead, so that what is used stays there, and what
//!   they let go leaves here.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::Memory;
use crate::cache::entry::Entry;
use crate::keys::MappingId;
use crate::telemetry::TopReader;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::HitCell;

/// Most keys of one thread's cache, and most bytes: they may be kept nowhere else. When it is full it is emptied. An
/// entry longer than `LONG` takes longer to write than to find, and is not kept here.
const MOST: usize = 32 * 1024;
const MOST_BYTES: usize = 32 << 20;
const LONG: usize = 1 << 20;
/// One hit of so many asks all entries.
const ASK_EVERY: u32 = 16;

#[derive(Debug)]
struct Seen {
    key: Bytes,
    version: u64,
    entry: Arc<Entry>,
}

impl Seen {
    fn cost(&self) -> usize {
        cost(&self.key, &self.entry)
    }
}

/// One thread's hits: for each hash of a key, the key that was last seen with it.
#[derive(Debug, Default)]
pub struct ThreadCache {
    seen: HashMap<u64, Seen, BuildHasherDefault<AsHashed>>,
    bytes: usize,
    hits: u32,
    /// What its hits are counted with, by mapping.
    counted: Vec<Arc<HitCell>>,
    /// What its hot keys are found with.
    top: TopReader,
}

/// The hasher of what is a hash already: a hit hashes its key once, for its version and for this cache.
#[derive(Debug, Default)]
struct AsHashed(u64);

impl Hasher for AsHashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What an entry keeps in memory when it is kept nowhere else.
fn cost(key: &[u8], entry: &Entry) -> usize {
    key.len() + entry.weight()
}

impl ThreadCache {
    /// A key is read that is not in this cache.
    #[inline]
    pub fn saw(&mut self, key: &[u8], bytes: usize, now: Tick) {
        self.top.saw(key, bytes, now);
    }

    /// Counts a hit of a mapping.
    #[inline]
    pub fn count(&self, id: MappingId, is_there: bool) {
        if let Some(cell) = self.counted.get(id.index()) {
            cell.count(is_there);
        }
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<&Seen> {
        self.seen.get(&hash).filter(|seen| seen.key == key)
    }

    fn keep(&mut self, hash: u64, key: &[u8], version: u64, entry: &Arc<Entry>) {
        let cost = cost(key, entry);
        if cost > LONG {
            return self.forget(hash);
        }
        if self.seen.len() >= MOST || self.bytes + cost > MOST_BYTES {
            self.seen.clear();
            self.bytes = 0;
        }
        self.bytes += cost;
        match self.seen.entry(hash) {
            Vacant(place) => {
                place.insert(Seen { key: Bytes::copy_from_slice(key), version, entry: entry.clone() });
            }
            Occupied(place) => {
                let seen = place.into_mut();
                self.bytes -= seen.cost();
                if seen.key != key {
                    seen.key = Bytes::copy_from_slice(key);
                }
                (seen.version, seen.entry) = (version, entry.clone());
            }
        }
    }

    fn forget(&mut self, hash: u64) {
        self.bytes -= self.seen.remove(&hash).map_or(0, |seen| seen.cost());
    }
}

impl Memory {
    /// A thread's own cache over this memory.
    pub(crate) fn thread_cache(&self) -> ThreadCache {
        let mut counted = Vec::new();
        for cached in self.source.all() {
            counted.resize_with(cached.mapping().id.index(), Arc::default);
            counted.push(cached.counts.hit_cell());
        }
        ThreadCache { counted, top: self.metrics.top.reader(), ..ThreadCache::default() }
    }

    /// Like [`Memory::get`], through the thread's own cache; returns what `answer` makes of the entry.
    pub(crate) fn hit<T>(
        self: &Arc<Self>,
        thread_cache: &mut ThreadCache,
        id: MappingId,
        key: &[u8],
        now: Tick,
        answer: impl FnOnce(&Arc<Entry>) -> T,
    ) -> Option<T> {
        let cached = self.source.cached(id)?;
        let hash = self.entries.versions.hash(key);
        let version = self.entries.versions.of(hash);
        thread_cache.hits = thread_cache.hits.wrapping_add(1);
        if !thread_cache.hits.is_multiple_of(ASK_EVERY)
            && let Some(seen) = thread_cache.find(hash, key)
            && seen.version == version
            && self.is_usable(cached, &seen.entry, now)
        {
            self.sampler.saw(id, key, &seen.entry);
            let answered = answer(&seen.entry);
            let (is_there, bytes) = (seen.entry.record.is_some(), seen.entry.weight());
            thread_cache.count(id, is_there);
            thread_cache.top.saw(key, bytes, now);
            return Some(answered);
        }
        let Some(entry) = self.get(id, key, now) else {
            thread_cache.forget(hash);
            return None;
        };
        thread_cache.keep(hash, key, version, &entry);
        thread_cache.count(id, entry.record.is_some());
        thread_cache.top.saw(key, entry.weight(), now);
        Some(answer(&entry))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LONG, MOST, MOST_BYTES, Seen, ThreadCache};
    use crate::cache::entry::{Entry, Span};
    use crate::cache::memory::versions::Versions;
    use crate::config;
    use crate::keys::MappingId;
    use crate::record::Record;
    use crate::telemetry::clock::Tick;

    fn entry(length: usize) -> Arc<Entry> {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Span::new(&block, &config::Cache::default());
        Arc::new(life.entry(Record::string(&vec![b'v'; length]).ok(), MappingId::default(), 0, Tick::default()))
    }

    /// Bytes of the entries that a thread's cache keeps.
    fn kept(thread_cache: &ThreadCache) -> usize {
        thread_cache.seen.values().map(Seen::cost).sum()
    }

    #[test]
    fn a_thread_cache_that_is_full_is_emptied() {
        let (mut thread_cache, small, versions) = (ThreadCache::default(), entry(1), Versions::default());
        let keep = |thread_cache: &mut ThreadCache, key: &str, entry: &Arc<Entry>| {
            thread_cache.keep(versions.hash(key.as_bytes()), key.as_bytes(), 0, entry);
        };
        for i in 0..3 * MOST {
            keep(&mut thread_cache, &format!("k:{i}"), &small);
            assert!(thread_cache.seen.len() <= MOST);
        }
        let mut most = 0;
        for i in 0..100 {
            keep(&mut thread_cache, &format!("k:{}", i % 60), &entry(LONG - 1000));
            most = most.max(thread_cache.bytes);
            // Keys that nobody has are entries, too, and may be as long as a value.
            keep(&mut thread_cache, &format!("k:{}", "x".repeat(100_000 + i)), &small);
            assert_eq!(thread_cache.bytes, kept(&thread_cache));
        }
        assert!(most > MOST_BYTES / 2 && most <= MOST_BYTES, "{most}");
        let is_kept = |thread_cache: &ThreadCache| thread_cache.find(versions.hash(b"k:1"), b"k:1").is_some();
        keep(&mut thread_cache, "k:1", &small);
        assert!(is_kept(&thread_cache));
        keep(&mut thread_cache, "k:1", &entry(LONG));
        assert!(!is_kept(&thread_cache), "what is long is not kept, nor what it was before");
    }

    #[test]
    fn keys_of_one_hash_take_turns_and_are_never_confused() {
        let (mut thread_cache, short, long) = (ThreadCache::default(), entry(1), entry(1000));
        for (key, other, entry) in [("a", "b", &short), ("b", "a", &long), ("b", "a", &short)] {
            thread_cache.keep(7, key.as_bytes(), 0, entry);
            assert!(thread_cache.find(7, key.as_bytes()).is_some_and(|seen| Arc::ptr_eq(&seen.entry, entry)));
            assert!(thread_cache.find(7, other.as_bytes()).is_none());
            assert_eq!((thread_cache.seen.len(), thread_cache.bytes), (1, kept(&thread_cache)));
        }
    }
}
