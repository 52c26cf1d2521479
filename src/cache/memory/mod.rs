//! What is in memory: entries and their lifetimes, the latest hits of each thread, loads and writes in flight, the
//! overlay of deferred writes, and how far the change feed is trusted. Knows mappings and how a record is loaded; never
//! how one is written or saved.

mod asking;
mod background;
mod ended;
mod entries;
mod expiries;
mod feed;
mod forgetting;
mod handover;
mod in_place;
pub(super) mod key_events;
mod loading;
pub(super) mod loads;
pub(super) mod order;
pub(super) mod overlay;
pub(super) mod own_writes;
pub(super) mod refreshes;
pub(super) mod residents;
pub(super) mod sampler;
mod slot;
pub(super) mod thread_cache;
mod tracked;
mod versions;
pub(super) mod waiting;
mod watchers;
mod written;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use asking::Wish;
use ended::Outcome;
use entries::Entries;
use expiries::Expiries;
use feed::Feed;
use handover::Handover;
use loads::{Flights, WriteTurn};
use overlay::Overlay;
use own_writes::OwnWrites;
use refreshes::{OfMapping, Refreshes};
use residents::{Residents, Room};
use sampler::{Sample, Sampler};
use written::WrittenKeys;

use super::cause::Cause;
use super::entry::{Entry, Use};
use super::source::{Cached, Source};
use crate::config;
use crate::journal;
use crate::key_events::KeyEvents;
use crate::keys::MappingId;
use crate::quota::Asker;
use crate::record::{Record, TtlChange};
use crate::store::StoreError;
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::metrics::CacheMetrics;
use crate::tracking::Tracking;

/// What one sidecar has in memory of its cached mappings.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) source: Source,
    entries: Entries,
    flights: Arc<Flights>,
    pub(crate) overlay: Overlay,
    pub(crate) own_writes: OwnWrites,
    pub(crate) feed: Feed,
    /// Closed while the cache that this one replaces still works.
    pub(crate) handover: Handover,
    sampler: Sampler,
    refreshes: Refreshes,
    /// Notified when a mapping is forgotten.
    outdated: Notify,
    /// `cache.max_staleness`, in milliseconds.
    max_staleness: u64,
    /// Who keeps keys, and is told when they change.
    tracking: Arc<Tracking>,
    /// Who is told what happens to keys.
    events: Arc<KeyEvents>,
    /// When keys end by a column of their rows, while somebody is told of that.
    expiries: Expiries,
    metrics: Arc<CacheMetrics>,
}

/// What memory picks out for those who work beside it.
#[derive(Debug)]
pub(super) struct Picked {
    /// Hits that are to be verified.
    pub(super) samples: mpsc::Receiver<Sample>,
    /// Keys that are to be loaded again, because they were read and have changed.
    pub(super) forgotten: Vec<OfMapping>,
}

impl Memory {
    /// An empty memory, and the receiving ends of what it picks.
    pub(super) fn new(
        source: Source,
        settings: &config::Settings,
        metrics: Arc<CacheMetrics>,
        (tracking, events): (Arc<Tracking>, Arc<KeyEvents>),
    ) -> (Self, Picked) {
        let (sampler, samples) = Sampler::new(&settings.verify);
        let mappings = source.all().map(|cached| cached.mapping().id);
        let (refreshes, forgotten) = Refreshes::new(settings.cache.refresh, mappings);
        let residents = Residents::of(source.all());
        let memory = Self {
            source,
            entries: Entries::new(&settings.cache, residents),
            flights: Arc::new(Flights::telling(tracking.clone(), events.clone())),
            overlay: Overlay::default(),
            own_writes: OwnWrites::default(),
            feed: Feed::default(),
            handover: Handover::default(),
            sampler,
            refreshes,
            outdated: Notify::new(),
            max_staleness: millis(settings.cache.max_staleness),
            tracking,
            events,
            expiries: Expiries::default(),
            metrics,
        };
        (memory, Picked { samples, forgotten })
    }

    /// The entry of `key` if it may be served at `now`. One whose TTL is over and that may be served while it is loaded
    /// again is; the load is begun, once.
    pub(super) fn get(self: &Arc<Self>, id: MappingId, key: &[u8], now: Tick) -> Option<Arc<Entry>> {
        let cached = self.source.cached(id)?;
        let entry = self.entries.get(key)?;
        if self.is_usable(cached, &entry, now) {
            self.sampler.saw(id, key, &entry);
            entry.use_at(now);
            return Some(entry);
        }
        let serves = entry.expired_within(cached.life.stale, now) && self.vouches(cached, &entry, now);
        serves.then(|| {
            self.metrics.stale_served.inc();
            // Whether it can be loaded is the next reader's business.
            drop(self.begin(id, &Bytes::copy_from_slice(key), Wish::Asked, Some(&mut Asker::new(None, now))));
            entry
        })
    }

    /// True when the entry may be served at `now`.
    pub(super) fn is_usable(&self, cached: &Cached, entry: &Entry, now: Tick) -> bool {
        !entry.is_expired(now) && self.vouches(cached, entry, now)
    }

    /// True while nothing is known to have changed since the entry was loaded, and not too much may have been missed.
    fn vouches(&self, cached: &Cached, entry: &Entry, now: Tick) -> bool {
        let most = cached.life.max_staleness;
        let is_told = || self.source.is_watched(cached, now) && self.feed.is_fresh(most, now);
        entry.epoch == cached.epoch() && (is_told() || now.since(entry.loaded_at) <= most)
    }

    /// The entry that may be served for want of a better one: its TTL is over, and the store cannot be asked.
    fn stale_for_error(&self, id: MappingId, key: &[u8]) -> Option<Arc<Entry>> {
        let (cached, now) = (self.source.cached(id)?, Tick::now());
        let entry = self.entries.get(key)?;
        let serves = entry.expired_within(cached.life.stale_if_error, now) && self.vouches(cached, &entry, now);
        serves.then(|| {
            self.metrics.stale_served.inc();
            entry
        })
    }

    /// True while somebody loads or writes `key`.
    pub(super) fn is_under_way(&self, key: &[u8]) -> bool {
        self.flights.has(key)
    }

    /// The entry of `key`, whether or not it may be served.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// The records in memory that may be served: when each was read last, its mapping and its key.
    pub(super) fn used(&self) -> Vec<(Use, MappingId, Bytes)> {
        let now = Tick::now();
        let is_usable =
            |entry: &Entry| self.source.cached(entry.mapping).is_some_and(|c| self.is_usable(c, entry, now));
        let records = self.entries.records().filter(|(_, entry)| is_usable(entry));
        records.map(|(key, entry)| (entry.used_at(), entry.mapping, key)).collect()
    }

    /// What is in memory of a mapping.
    pub(super) fn room(&self, id: MappingId) -> Room {
        self.entries.residents.room(id)
    }

    /// `cache.max_bytes`.
    pub(super) fn most_bytes(&self) -> u64 {
        self.entries.most_bytes()
    }

    /// The bytes of the records in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// A gap begins: changes may be missed. What is in memory was true a moment ago and is served until it is older
    /// than `max_staleness`.
    pub(super) fn lost(&self) {
        self.feed.lost();
        self.metrics.change_feed_up.set(0);
    }

    /// Every change up to `as_of` has been applied.
    pub(super) fn alive(&self, as_of: Tick) {
        self.feed.alive(as_of);
        self.metrics.change_feed_up.set(1);
    }

    /// Starts the TTL of a read entry again where its mapping says so; its new expiry, if its row must get it.
    pub(super) fn renew(&self, entry: &Entry, now: Tick) -> Option<Tick> {
        self.source.cached(entry.mapping)?.life.renew(entry, now)
    }

    /// Gives an entry of `key` another time to live; without a limit it lives as long as its mapping allows.
    pub(super) fn change_ttl(&self, id: MappingId, key: &[u8], entry: &Entry, life: TtlChange, now: Tick) {
        if let Some(cached) = self.source.cached(id) {
            cached.life.change_ttl(entry, life, now);
            // A look at the entry tells moka that its expiry has moved.
            self.entries.get(key);
            if !self.tracking.is_idle() {
                self.put_again(key, entry);
            }
        }
    }

    /// Counts an error of a mapping's statement, if it is that the store was overloaded.
    pub(crate) fn count_overload(&self, cached: &Cached, error: &StoreError) {
        if matches!(error, StoreError::Overloaded(_)) {
            self.metrics.overloaded(cached.name());
        }
    }

    /// Tells whether anything happens to `key` from now on, for as long as the answer is kept.
    pub(super) fn watch(&self, key: &Bytes) -> Arc<AtomicBool> {
        self.flights.watch(key)
    }

    /// Queues a write of each key, which is out of memory from then on.
    pub(crate) fn queue(&self, keys: &[Bytes]) -> Vec<WriteTurn> {
        let turns = self.flights.queue(keys, |key| self.entries.take(key));
        keys.iter().for_each(|key| self.source.store.is_of_interest(key));
        turns
    }

    /// The same of one key.
    pub(super) fn queue_one(&self, key: &Bytes) -> WriteTurn {
        let turn = self.flights.queue_one(key, |key| self.entries.take(key));
        self.source.store.is_of_interest(key);
        turn
    }

    /// Does `f` unless somebody writes the key: whoever queues to write it from now on comes after that.
    pub(super) fn unless_written<T>(&self, key: &[u8], f: impl FnOnce() -> T) -> Option<T> {
        self.flights.unless_written(key, f)
    }

    /// Keeps what is true of a key now, as far as is known.
    fn put(&self, key: &Bytes, entry: &Arc<Entry>) {
        entry.is_known_at(self.source.store.looks());
        self.entries.put(key, entry);
    }

    /// Keeps what the last write of a key has left, if that is known.
    fn put_left(&self, key: &Bytes, left: Option<&Arc<Entry>>) {
        match left {
            Some(entry) => self.put(key, entry),
            None => self.entries.drop_taken(key),
        }
    }

    /// Notes that a key was written. Nothing is where neither before nor after anything of it was in memory.
    fn note_write(&self, turn: &WriteTurn, left: Option<&Entry>) {
        if let Some(entry) = left.or(turn.before.as_deref()) {
            self.note(entry.mapping, turn.key(), Cause::Write(turn.author.clone()));
        }
    }

    /// Ends a write that has changed the key, or may have: `left` is what is true of the key now, if that is known.
    pub(crate) fn end(&self, turn: WriteTurn, left: Option<Arc<Entry>>) {
        self.note_write(&turn, left.as_deref());
        self.note_end(turn.key(), left.as_deref());
        turn.end(Outcome::MayHaveChanged, left, |key, left| self.put_left(key, left));
    }

    /// Makes ready what a write leaves if it succeeds: nobody is given it before [`Memory::end_prepared`].
    pub(super) fn prepare(&self, turn: &WriteTurn, entry: &Arc<Entry>) {
        self.entries.prepare(turn.key(), entry);
    }

    /// Ends a write that has changed the key, and has left what was prepared.
    pub(super) fn end_prepared(&self, turn: WriteTurn, left: Arc<Entry>) {
        self.note_write(&turn, Some(&left));
        self.note_end(turn.key(), Some(&left));
        turn.end(Outcome::MayHaveChanged, Some(left), |key, left| match left {
            Some(entry) => {
                entry.is_known_at(self.source.store.looks());
                self.entries.show(key, entry);
            }
            None => self.entries.drop_taken(key),
        });
    }

    /// The same of a write that has changed nothing.
    pub(super) fn end_unchanged(&self, turn: WriteTurn, left: Option<Arc<Entry>>) {
        turn.end(Outcome::Unchanged, left, |key, left| self.put_left(key, left));
    }

    /// Ends a write that has changed nothing: what was in memory when it queued is true.
    pub(super) fn undo(&self, mut turn: WriteTurn) {
        let before = turn.before.take();
        self.end_unchanged(turn, before);
    }

    /// Writes that have queued and not ended.
    pub(super) fn writes(&self) -> usize {
        self.flights.writes()
    }

    /// The keys that were written and are to be brought to the upstream.
    pub(super) fn written(&self) -> &WrittenKeys {
        &self.flights.written
    }

    /// True when a write has queued and not ended, of a key that `is_meant`.
    pub(super) fn writes_some(&self, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        self.flights.writes_some(is_meant)
    }

    /// The store has what waited of a key: nothing of that lies over it any more. A load that began before may have
    /// read the row of before, and memory must hold what the store made of the values: that is told with the moment
    /// since which it was on its way. What was loaded since then may have these values over newer ones of somebody
    /// else's, whose notice has come already.
    pub(super) fn settle(&self, key: &Bytes, applied: &[journal::Entry], told: Option<(Tick, Option<Record>)>) {
        let is_doubted = self.flights.settle(key, |is_written| {
            self.overlay.settle(key, applied);
            // What nobody has in memory somebody may keep. A write tells of itself when it ends.
            let Some(entry) = self.entries.get(key) else { return !is_written };
            let is_true = told
                .is_some_and(|(sent, record)| entry.loaded_at < sent && entry.record == self.overlay.over(key, record));
            match is_true {
                // What the batch saved is part of it from now on: what is told of before lacks that.
                true => entry.is_known_at(self.source.store.looks()),
                false => {
                    self.entries.remove(key);
                    self.note(entry.mapping, key, Cause::Write(None));
                }
            }
            !is_true
        });
        if is_doubted {
            self.tracking.doubted(key);
        }
    }

    /// The store never gets what waited of a key: the key is forgotten.
    pub(super) fn give_up(&self, key: &Bytes, refused: &[journal::Entry]) {
        self.flights.detach(key, || {
            self.overlay.settle(key, refused);
            let removed = self.entries.remove(key);
            if let Some(entry) = &removed {
                self.note(entry.mapping, key, Cause::WriteRefused);
            }
            removed
        });
        self.tracking.changed(key, None);
        self.events.changed(key);
    }

    /// Does the entries' housekeeping and takes its measures; to be called a few times a second.
    pub(super) fn tidy(&self) {
        let (entries, bytes) = self.entries.tidy();
        self.metrics.entries.set(entries as i64);
        self.metrics.bytes.set(bytes as i64);
        self.metrics.own_writes.set(self.own_writes.tidy(Tick::now()) as i64);
        self.flights.tidy();
        self.events.note_expiries(self.expiries.len());
        let is_up = self.feed.is_connected() && self.feed.is_fresh(self.max_staleness, Tick::now());
        self.metrics.change_feed_up.set(i64::from(is_up));
        self.see_silence();
    }
}
