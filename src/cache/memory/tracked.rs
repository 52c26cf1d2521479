//! What clients keep themselves of the keys in memory (CLIENT TRACKING): when it ends, and whether it is still what the
//! next reader would be given.

use std::hash::BuildHasher;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::Memory;
use crate::cache::entry::Entry;
use crate::cache::source::Cached;
use crate::keys::MappingId;
use crate::record::Record;
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;
use crate::tracking::Reader;

/// What is served past its TTL while it is loaded again may be kept for so many milliseconds.
const BRIEFLY: u64 = 1000;

static PRINTS: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

/// A number of what a key holds, by which another value is told from it.
pub(super) fn print_of(entry: &Entry) -> u32 {
    PRINTS.hash_one(&entry.record) as u32
}

impl Memory {
    /// A client that tracks is given `entry` of `key`. Whether that is still what the next one would be given is looked
    /// at when the client is among those who are told: else it is told at once.
    pub(crate) fn reads(&self, reader: &Reader, key: &[u8], entry: &Arc<Entry>) {
        let (Some(cached), now) = (self.source.cached(entry.mapping), Tick::now()) else { return reader.forgets(key) };
        reader.reads(key, self.kept_until(cached, entry, now), || print_of(entry));
        let is_there = |there: Arc<Entry>| Arc::ptr_eq(&there, entry) && there.epoch == cached.epoch();
        if !self.entries.get(key).is_some_and(is_there) && !is_planted("tracked-read-not-looked-at") {
            reader.forgets(key);
        }
    }

    /// The same of a client that is given what a transaction has read of a key.
    pub(crate) fn reads_record(&self, reader: &Reader, id: MappingId, key: &Bytes, record: Option<&Record>) {
        match self.entries.get(key).filter(|entry| entry.mapping == id && entry.record.as_ref() == record) {
            Some(entry) => self.reads(reader, key, &entry),
            None => reader.forgets(key),
        }
    }

    /// When what a client was given may not be kept any more. What nobody vouches for is kept for as long as it would
    /// be served.
    fn kept_until(&self, cached: &Cached, entry: &Entry, now: Tick) -> Tick {
        let most = cached.life.max_staleness;
        let is_told = self.source.is_watched(cached, now) && self.feed.is_fresh(most, now);
        let vouched = if is_told { Tick::NEVER } else { entry.loaded_at.plus(most) };
        let end = entry.expires_at().min(vouched);
        if end > now { end } else { now.plus(BRIEFLY) }
    }

    /// Waits until something that clients keep ends, and tells them.
    pub(crate) async fn tell_of_ends(&self) {
        let lives = |key: &[u8]| {
            let (entry, now) = (self.entries.get(key)?, Tick::now());
            let cached = self.source.cached(entry.mapping).filter(|c| self.is_usable(c, &entry, now))?;
            Some(self.kept_until(cached, &entry, now))
        };
        self.tracking.end_next(lives).await;
    }

    /// Sees whether changes may be missed for so long by now that what was kept before may be older than what would be
    /// served.
    pub(super) fn see_silence(&self) {
        let now = Tick::now();
        let is_heard = |cached: &Cached| {
            let is_fresh = || self.feed.is_fresh(cached.life.max_staleness, now);
            !cached.current.is_watched() || self.source.is_watched(cached, now) && is_fresh()
        };
        let is_told = self.source.all().all(is_heard);
        if self.is_told.swap(is_told, Relaxed) && !is_told {
            self.tracking.everything();
        }
    }
}
