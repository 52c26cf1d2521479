//! What clients keep themselves of the keys in memory (CLIENT TRACKING): when it ends, and whether it is still what the
//! next reader would be given.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

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

impl Memory {
    /// A client that tracks is given `entry` of `key`. Whether that is still what the next one would be given is looked
    /// at when the client is among those who are told: else it is told at once.
    pub(crate) fn reads(&self, reader: &Reader, key: &[u8], entry: &Arc<Entry>) {
        let (Some(cached), now) = (self.source.cached(entry.mapping), Tick::now()) else { return reader.forgets(key) };
        reader.reads(key, self.kept_until(cached, entry, now), || entry.print());
        self.relies_on(cached, now);
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

    /// How long an entry lives has changed: another one takes its place, as if it were another value. Who was given it
    /// before, and is not among those who are told yet, finds that it is not there any more.
    pub(super) fn put_again(&self, key: &[u8], entry: &Entry) {
        self.flights.unless_written(key, || {
            if self.entries.get(key).is_some_and(|there| std::ptr::eq(&*there, entry)) {
                self.entries.put(&Bytes::copy_from_slice(key), &Arc::new(entry.again()));
            }
        });
    }

    /// When what a client was given may not be kept any more. What nobody vouches for is kept for as long as it would
    /// be served.
    fn kept_until(&self, cached: &Cached, entry: &Entry, now: Tick) -> Tick {
        let vouched =
            if self.is_told(cached, now) { Tick::NEVER } else { entry.loaded_at.plus(cached.life.max_staleness) };
        let end = entry.expires_at().min(vouched);
        if end > now { end } else { now.plus(BRIEFLY) }
    }

    /// True while every change of a mapping's keys is told.
    fn is_told(&self, cached: &Cached, now: Tick) -> bool {
        self.source.is_watched(cached, now) && self.feed.is_fresh(cached.life.max_staleness, now)
    }

    /// A client is among those who are told, and keeps what it was given at `now` for as long as changes are. If they
    /// are not by the time of this, the next look at the silence finds it.
    fn relies_on(&self, cached: &Cached, now: Tick) {
        if self.is_told(cached, now) && !cached.is_relied_on.load(SeqCst) {
            cached.is_relied_on.store(true, SeqCst);
        }
    }

    /// Waits until something that clients keep ends, and tells them.
    pub(crate) async fn tell_of_ends(&self) {
        let lives = |key: &[u8]| {
            let (entry, now) = (self.entries.get(key)?, Tick::now());
            let cached = self.source.cached(entry.mapping).filter(|c| self.is_usable(c, &entry, now))?;
            let until = self.kept_until(cached, &entry, now);
            self.relies_on(cached, now);
            Some(until)
        };
        self.tracking.end_next(lives).await;
    }

    /// Sees whether changes of some mapping may be missed for so long by now that what was kept before may be older
    /// than what would be served. Each mapping falls silent by itself: how old its keys may be, and whether its tables
    /// can be looked at, is its own.
    pub(super) fn see_silence(&self) {
        let (now, mut has_fallen_silent) = (Tick::now(), false);
        for cached in self.source.all() {
            let is_told = !cached.current.is_watched() || self.is_told(cached, now);
            has_fallen_silent |= cached.is_relied_on.swap(is_told, SeqCst) && !is_told;
        }
        if has_fallen_silent {
            self.tracking.everything();
        }
    }
}
