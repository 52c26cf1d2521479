//! What one worker thread has lately been given: hits that take no lock, count no reference and ask nobody's permission.
//! docs/decisions/0009 has the measurement that earns it its place before moka.
//!
//! Invariants:
//! - an entry is given only while its key's version is the one that was read before the entry was looked up: whatever
//!   is put in its place, or taken out of it, raises the version before that is acknowledged ([`Versions`]);
//! - whether an entry may be served is asked anew each time (its TTL, its epoch, how far the feed vouches);
//! - now and then a hit asks the shelf instead, so that what is used stays there, and what it let go leaves here.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;

use crate::cache::{Cache, Entry};
use crate::telemetry::planted::is_planted;

/// Keys share versions; a change of one costs the others a look at the shelf.
const VERSIONS: usize = 4096;
/// Most keys of one front, and most bytes: the shelf may have let them go. When it is full it begins anew. What is longer than
/// `LONG` takes longer to write than to find, and is the shelf's alone.
const MOST: usize = 32 * 1024;
const MOST_BYTES: usize = 32 << 20;
const LONG: usize = 1 << 20;
/// One hit of so many asks the shelf.
const ASK_EVERY: u32 = 16;

/// The version of every key.
#[derive(Debug)]
pub(crate) struct Versions {
    hasher: foldhash::quality::RandomState,
    versions: Box<[AtomicU64]>,
}

impl Default for Versions {
    fn default() -> Self {
        let versions = (0..VERSIONS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: foldhash::quality::RandomState::default(), versions }
    }
}

impl Versions {
    fn of(&self, key: &[u8]) -> &AtomicU64 {
        &self.versions[self.hasher.hash_one(key) as usize % VERSIONS]
    }

    /// What is known of `key` is no longer what was known.
    pub(crate) fn raise(&self, key: &[u8]) {
        if is_planted("version-not-raised") {
            return;
        }
        self.of(key).fetch_add(1, SeqCst);
    }
}

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

/// What an entry keeps in memory when the shelf has let it go.
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

impl Cache {
    /// As [`Cache::get`], through a thread's front: what `answer` makes of the entry.
    pub fn hit<T>(
        self: &Arc<Self>,
        front: &mut ThreadCache,
        id: usize,
        key: &[u8],
        now: u64,
        answer: impl FnOnce(&Arc<Entry>) -> T,
    ) -> Option<T> {
        let cached = self.cached(id)?;
        let version = self.shelf.versions.of(key).load(SeqCst);
        front.hits = front.hits.wrapping_add(1);
        if !front.hits.is_multiple_of(ASK_EVERY)
            && let Some(seen) = front.seen.get(key)
            && seen.version == version
            && self.is_usable(cached, &seen.entry, now)
        {
            self.sampler.saw(id, key, &seen.entry);
            return Some(answer(&seen.entry));
        }
        let Some(entry) = self.get(id, key, now) else {
            front.forget(key);
            return None;
        };
        front.keep(key, version, &entry);
        Some(answer(&entry))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LONG, MOST, MOST_BYTES, ThreadCache, cost};
    use crate::cache::Entry;
    use crate::cache::memory::entry::Span;
    use crate::config;
    use crate::record::Record;

    fn entry(length: usize) -> Arc<Entry> {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Span::new(&block, &config::Cache::default());
        Arc::new(life.entry(Record::string(&vec![b'v'; length]).ok(), 0, 0, 0))
    }

    /// Bytes of the entries that the front alone keeps.
    fn kept(front: &ThreadCache) -> usize {
        front.seen.iter().map(|(key, seen)| cost(key, &seen.entry)).sum()
    }

    #[test]
    fn a_front_that_is_full_begins_anew() {
        let (mut front, small) = (ThreadCache::default(), entry(1));
        for i in 0..3 * MOST {
            front.keep(format!("k:{i}").as_bytes(), 0, &small);
            assert!(front.seen.len() <= MOST);
        }
        let mut most = 0;
        for i in 0..100 {
            front.keep(format!("k:{}", i % 60).as_bytes(), 0, &entry(LONG - 1000));
            most = most.max(front.bytes);
            // Keys that nobody has are entries, too, and may be as long as a value.
            front.keep(format!("k:{}", "x".repeat(100_000 + i)).as_bytes(), 0, &small);
            assert_eq!(front.bytes, kept(&front));
        }
        assert!(most > MOST_BYTES / 2 && most <= MOST_BYTES, "{most}");
        front.keep(b"k:1", 0, &small);
        front.keep(b"k:1", 0, &entry(LONG));
        assert!(!front.seen.contains_key(&b"k:1"[..]), "what is long is not kept, nor what it was before");
    }
}
