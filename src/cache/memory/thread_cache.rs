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
use std::sync::Arc;

use bytes::Bytes;

use super::Memory;
use crate::cache::entry::Entry;
use crate::keys::MappingId;
use crate::telemetry::clock::Tick;

/// Most keys of one thread's cache, and most bytes: they may be kept nowhere else. When it is full it is emptied. An
/// entry longer than `LONG` takes longer to write than to find, and is not kept here.
const MOST: usize = 32 * 1024;
const MOST_BYTES: usize = 32 << 20;
const LONG: usize = 1 << 20;
/// One hit of so many asks all entries.
const ASK_EVERY: u32 = 16;

#[derive(Debug)]
struct Seen {
    version: u64,
    entry: Arc<Entry>,
}

/// One thread's hits.
#[derive(Debug, Default)]
pub struct ThreadCache {
    seen: HashMap<Bytes, Seen, foldhash::fast::RandomState>,
    bytes: usize,
    hits: u32,
}

/// What an entry keeps in memory when it is kept nowhere else.
fn cost(key: &[u8], entry: &Entry) -> usize {
    key.len() + entry.weight()
}

impl ThreadCache {
    fn keep(&mut self, key: &[u8], version: u64, entry: &Arc<Entry>) {
        let cost = cost(key, entry);
        if cost > LONG {
            return self.forget(key);
        }
        if self.seen.len() >= MOST || self.bytes + cost > MOST_BYTES {
            self.seen.clear();
            self.bytes = 0;
        }
        self.bytes += cost;
        let seen = Seen { version, entry: entry.clone() };
        let before = match self.seen.get_mut(key) {
            Some(known) => Some(std::mem::replace(known, seen)),
            None => self.seen.insert(Bytes::copy_from_slice(key), seen),
        };
        self.bytes -= before.map_or(0, |seen| self::cost(key, &seen.entry));
    }

    fn forget(&mut self, key: &[u8]) {
        self.bytes -= self.seen.remove(key).map_or(0, |seen| cost(key, &seen.entry));
    }
}

impl Memory {
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
        let version = self.entries.versions.of(key);
        thread_cache.hits = thread_cache.hits.wrapping_add(1);
        if !thread_cache.hits.is_multiple_of(ASK_EVERY)
            && let Some(seen) = thread_cache.seen.get(key)
            && seen.version == version
            && self.is_usable(cached, &seen.entry, now)
        {
            self.sampler.saw(id, key, &seen.entry);
            return Some(answer(&seen.entry));
        }
        let Some(entry) = self.get(id, key, now) else {
            thread_cache.forget(key);
            return None;
        };
        thread_cache.keep(key, version, &entry);
        Some(answer(&entry))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LONG, MOST, MOST_BYTES, ThreadCache, cost};
    use crate::cache::entry::{Entry, Span};
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
        thread_cache.seen.iter().map(|(key, seen)| cost(key, &seen.entry)).sum()
    }

    #[test]
    fn a_thread_cache_that_is_full_is_emptied() {
        let (mut thread_cache, small) = (ThreadCache::default(), entry(1));
        for i in 0..3 * MOST {
            thread_cache.keep(format!("k:{i}").as_bytes(), 0, &small);
            assert!(thread_cache.seen.len() <= MOST);
        }
        let mut most = 0;
        for i in 0..100 {
            thread_cache.keep(format!("k:{}", i % 60).as_bytes(), 0, &entry(LONG - 1000));
            most = most.max(thread_cache.bytes);
            // Keys that nobody has are entries, too, and may be as long as a value.
            thread_cache.keep(format!("k:{}", "x".repeat(100_000 + i)).as_bytes(), 0, &small);
            assert_eq!(thread_cache.bytes, kept(&thread_cache));
        }
        assert!(most > MOST_BYTES / 2 && most <= MOST_BYTES, "{most}");
        thread_cache.keep(b"k:1", 0, &small);
        thread_cache.keep(b"k:1", 0, &entry(LONG));
        assert!(!thread_cache.seen.contains_key(&b"k:1"[..]), "what is long is not kept, nor what it was before");
    }
}
