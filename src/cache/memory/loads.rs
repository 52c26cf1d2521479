//! Loads and writes in flight: at most one load that counts per key, and the writes of a key one after the other.
//!
//! Invariants, each under the key's shard lock:
//! - a reader joins a key's flight only while the flight is in the map, and of the current epoch once it has asked the
//!   store;
//! - `detach` takes a flight that has asked out, and with it its right to publish, in one step with forgetting the key
//!   (hazards 1, 2, 25);
//! - a load begins to ask, and a write begins, when the load before has ended, also one that was taken out: of two
//!   reads the later never sees what is older;
//! - `publish` puts an entry into memory only if its own flight is still in the map;
//! - a write detaches the load when it queues, and begins when that has ended: a pipeline's read does not see the write
//!   behind it; loads that begin before the write has ended begin after it;
//! - whoever watches a key hears of a write when that ends and has changed something, or may have, before what it left
//!   can be read;
//! - who keeps a key is told of such a write when what it left can be read, and not under the lock: there may be
//!   thousands (`ended.rs`);
//! - a write puts what it left into memory only if the feed reported no change, and no other write queued, since it
//!   queued;
//! - a flight or write that is dropped unended tells its waiters so: nobody waits for ever.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::asking::{Asking, Begun, Wish};
use super::ended::Outcome;
use super::key_events::News;
use super::slot::{Shard, Slot, tidy};
use super::waiting::{Flight, Predecessor, Turn, Waiter, given_up};
use super::written::WrittenKeys;
use crate::cache::cause::Author;
use crate::cache::entry::Entry;
use crate::key_events::KeyEvents;
use crate::quota::{Places, Refused};
use crate::store::Urgency;
use crate::telemetry::locked;
use crate::telemetry::planted::is_planted;
use crate::telemetry::traces::{CommandTrace, LoadTrace};
use crate::tracking::Tracking;

const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Flights {
    hasher: foldhash::quality::RandomState,
    pub(super) shards: Vec<Mutex<Shard>>,
    /// Held while several keys queue for one write, so that two such writes queue everywhere in the same order.
    several: Mutex<()>,
    /// The keys whose writes have ended.
    pub(super) written: WrittenKeys,
    /// Who keeps keys, and is told when a write has changed them.
    pub(super) tracking: Arc<Tracking>,
    /// Who is told what a write has done.
    pub(super) events: Arc<KeyEvents>,
}

/// The right to run a key's load, and perhaps to publish it.
#[derive(Debug)]
pub(super) struct Load {
    key: Bytes,
    pub(super) flight: Arc<Flight>,
    /// Who began it.
    pub(super) wish: Wish,
    /// The writes that come first.
    pub(super) after: Option<Predecessor>,
    /// The load that comes first.
    passed: Option<Waiter>,
    /// What it takes of what its user and its mapping may.
    pub(super) places: Places,
}

impl Load {
    pub(super) const fn key(&self) -> &Bytes {
        &self.key
    }

    /// The epoch in which it asks.
    pub(super) fn epoch(&self) -> u64 {
        self.flight.epoch()
    }

    /// Whether somebody waits for it.
    pub(super) fn urgency(&self) -> &Arc<Urgency> {
        &self.flight.urgency
    }

    /// What of it is traced.
    pub(super) fn trace(&self) -> Option<&LoadTrace> {
        self.flight.trace.as_ref()
    }

    /// Waits for what comes before the load; what the last write left.
    pub(super) async fn comes(&mut self) -> Option<Arc<Entry>> {
        if let Some(passed) = self.passed.take() {
            // Its result is for those who asked for it.
            let _theirs = passed.wait().await;
        }
        self.after.take()?.ended().await
    }
}

impl Drop for Load {
    /// A load that ends without a result (its task was stopped) must not keep its key's readers waiting.
    fn drop(&mut self) {
        self.places = Places::default();
        self.flight.end(|| Err(given_up()));
    }
}

/// The right to write a key when those before have ended. Dropped, it ends and leaves nothing in memory.
#[derive(Debug)]
pub(crate) struct WriteTurn {
    key: Bytes,
    pub(super) turn: Arc<Turn>,
    flights: Arc<Flights>,
    /// The write that comes first.
    after: Option<Predecessor>,
    /// The load that comes first: its readers asked before this write and must not see it.
    load: Option<Waiter>,
    /// What was in memory when it queued; once it is its turn, what the write before left.
    pub(crate) before: Option<Arc<Entry>>,
    /// Who writes, where that is known.
    pub(crate) author: Option<Arc<Author>>,
    /// What of its command is traced.
    pub(crate) trace: Option<Arc<CommandTrace>>,
    /// What is told of it when it has ended.
    pub(crate) news: News,
    has_ended: bool,
}

impl WriteTurn {
    fn new(
        key: Bytes,
        turn: Arc<Turn>,
        (flights, before): (Arc<Flights>, Option<Arc<Entry>>),
        (load, after): (Option<Waiter>, Option<Predecessor>),
    ) -> Self {
        let (author, trace, news, has_ended) = (None, None, None, false);
        Self { key, turn, flights, after, load, before, author, trace, news, has_ended }
    }

    pub(crate) const fn key(&self) -> &Bytes {
        &self.key
    }

    /// The same, unless a change was reported since it queued, which may be newer.
    pub(crate) fn present(&self) -> Option<&Arc<Entry>> {
        self.before.as_ref().filter(|_| !self.turn.overtaken.load(SeqCst))
    }

    /// True when nothing comes before the write.
    pub(crate) const fn is_next(&self) -> bool {
        self.load.is_none() && self.after.is_none()
    }

    /// Waits for what comes before the write.
    pub(crate) async fn comes(&mut self) {
        if let Some(load) = self.load.take() {
            // Its result is for those who asked for it, and may be newer than what was in memory.
            let _theirs = load.wait().await;
            self.before = None;
        }
        if let Some(after) = self.after.take() {
            self.before = after.ended().await;
        }
    }

    /// Ends the write: `left` is what is true of the key now, if that is known. Of the last write of a key `put` gets
    /// what memory is to hold from now on.
    pub(super) fn end(
        mut self,
        outcome: Outcome,
        left: Option<Arc<Entry>>,
        put: impl FnOnce(&Bytes, Option<&Arc<Entry>>),
    ) {
        self.flights.end(&self, outcome, left, put);
        self.has_ended = true;
    }
}

impl Drop for WriteTurn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.flights.end(self, Outcome::MayHaveChanged, None, |_, _| {});
        }
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            several: Mutex::default(),
            written: WrittenKeys::default(),
            tracking: Arc::default(),
            events: Arc::default(),
        }
    }
}

impl Flights {
    /// These are told of writes.
    pub(super) fn telling(tracking: Arc<Tracking>, events: Arc<KeyEvents>) -> Self {
        Self { tracking, events, ..Self::default() }
    }

    pub(super) fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        locked(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    /// Joins the key's flight, or begins one and gives the right to run it. `there` is asked again under the lock, so
    /// that a reader that just missed a publication does not load once more; then `places`, which may refuse a load.
    pub(super) fn begin(
        &self,
        key: &Bytes,
        Asking { epoch, wish, traced }: Asking<'_>,
        there: impl FnOnce() -> Option<Arc<Entry>>,
        places: impl FnOnce() -> Result<Places, Refused>,
    ) -> Result<(Begun, Option<Load>), Refused> {
        let mut shard = self.shard(key);
        let slot = shard.get(key);
        if let Some(slot) = slot.filter(|_| wish == Wish::Asked) {
            slot.hasten();
        }
        if let Some(flight) = slot.and_then(|slot| slot.flight.as_ref()).filter(|flight| flight.is_joinable(epoch)) {
            if let (Some(command), Some(load)) = (traced.command, &flight.trace) {
                load.followed_by(command);
            }
            return Ok((Begun::Joined(flight.joined()), None));
        }
        let after = slot.and_then(Slot::after);
        if let Some(entry) = there().filter(|_| after.is_none()) {
            return Ok((Begun::There(entry), None));
        }
        let places = places()?;
        // The key may be a slice of a client's buffer: the map must not pin that.
        let key = Bytes::copy_from_slice(key);
        let trace = traced.begins();
        let urgency = Urgency::of(wish == Wish::Asked, trace.is_some());
        let (slot, flight) = (shard.entry(key.clone()).or_default(), Flight::new(urgency, trace));
        let (passed, waiter) = (slot.pass(), flight.joined());
        slot.flight = Some(flight.clone());
        Ok((Begun::Joined(waiter), Some(Load { key, flight, wish, after, passed, places })))
    }

    /// From now on a load asks the store, in this epoch. True if it may take what the write before it left instead.
    pub(super) fn ask(&self, load: &Load, epoch: u64) -> bool {
        let _shard = self.shard(&load.key);
        load.flight.ask(epoch)
    }

    /// Takes the right to publish from the key's load and writes, and does `forget` in the same step.
    pub(super) fn detach<T>(&self, key: &[u8], forget: impl FnOnce() -> T) -> T {
        self.replace(key, |_| forget())
    }

    /// The same of a change whose outcome is known. `f` is told whether nobody loads or writes the key: else somebody
    /// may be answered with something newer.
    pub(super) fn replace<T>(&self, key: &[u8], f: impl FnOnce(bool) -> T) -> T {
        self.overtake(key, |slot| slot.watchers.touch(), |is_quiet, _| f(is_quiet))
    }

    /// The same, for what changes nothing that a client could see: nobody who watches hears of it. `f` is told whether
    /// somebody writes the key.
    pub(super) fn settle<T>(&self, key: &[u8], f: impl FnOnce(bool) -> T) -> T {
        self.overtake(key, |_| (), |_, is_written| f(is_written))
    }

    /// What a load or write of the key that is under way has read may be older than what `f` makes true.
    fn overtake<T>(&self, key: &[u8], touch: impl FnOnce(&mut Slot), f: impl FnOnce(bool, bool) -> T) -> T {
        let mut shard = self.shard(key);
        let (is_quiet, is_written) = match shard.get_mut(key) {
            None => (true, false),
            Some(slot) => {
                let state = (slot.is_quiet(), !slot.turns.is_empty());
                slot.overtake();
                touch(slot);
                tidy(&mut shard, key);
                state
            }
        };
        f(is_quiet, is_written)
    }

    /// Tells whether anything happens to `key` from now on, for as long as the answer is kept.
    pub(super) fn watch(&self, key: &Bytes) -> Arc<AtomicBool> {
        self.shard(key).entry(Bytes::copy_from_slice(key)).or_default().watchers.add()
    }

    /// Does `f` unless somebody writes the key: whoever queues to write it from now on comes after that.
    pub(super) fn unless_written<T>(&self, key: &[u8], f: impl FnOnce() -> T) -> Option<T> {
        let shard = self.shard(key);
        shard.get(key).is_none_or(|slot| slot.turns.is_empty()).then(f)
    }

    /// Does `f` while nobody else changes what goes on with the key.
    pub(super) fn hold<T>(&self, key: &[u8], f: impl FnOnce() -> T) -> T {
        let _shard = self.shard(key);
        f()
    }

    /// Forgets those who watch no more.
    pub(super) fn tidy(&self) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.retain(|_, slot| !slot.is_idle());
        }
    }

    /// Queues a write of each key; `forget` takes a key out of memory, in the same step.
    pub(super) fn queue(
        self: &Arc<Self>,
        keys: &[Bytes],
        forget: impl Fn(&Bytes) -> Option<Arc<Entry>>,
    ) -> Vec<WriteTurn> {
        let _several = (keys.len() > 1).then(|| locked(&self.several));
        keys.iter().map(|key| self.queue_one(key, &forget)).collect()
    }

    /// Queues a write of one key, as [`Flights::queue`].
    pub(super) fn queue_one(self: &Arc<Self>, key: &Bytes, forget: impl Fn(&Bytes) -> Option<Arc<Entry>>) -> WriteTurn {
        let mut shard = self.shard(key);
        let turn = Turn::new();
        let key = Bytes::copy_from_slice(key);
        let slot = shard.entry(key.clone()).or_default();
        if is_planted("join-after-write") {
            let after = slot.after();
            slot.turns.push_back(turn.clone());
            return WriteTurn::new(key.clone(), turn, (self.clone(), forget(&key)), (None, after));
        }
        slot.hasten();
        let (load, after) = (slot.pass(), slot.after());
        slot.turns.push_back(turn.clone());
        WriteTurn::new(key.clone(), turn, (self.clone(), forget(&key)), (load, after))
    }

    /// Whether somebody loads, writes or watches the key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.shard(key).contains_key(key)
    }

    /// The keys that are being loaded or written.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.shards.iter().flat_map(|shard| locked(shard).keys().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Weak};

    use bytes::Bytes;

    use super::{Asking, Begun, Flights, Load, Outcome, Places, Wish};
    use crate::cache::entry::Span;
    use crate::cache::memory::asking::Traced;
    use crate::cache::memory::waiting::LoadResult;
    use crate::config;
    use crate::keys::MappingId;
    use crate::record::Record;
    use crate::store::StoreError;
    use crate::telemetry::clock::Tick;
    use crate::tracking::{Ear, Manner, Tracking};

    fn entry(text: &str) -> LoadResult {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Span::new(&block, &config::Cache::default());
        Ok(Arc::new(life.entry(Record::string(text.as_bytes()).ok(), MappingId::default(), 0, Tick::default())))
    }

    fn begin(flights: &Flights, epoch: u64) -> (Begun, Option<Load>) {
        let asking = Asking { epoch, wish: Wish::Asked, traced: Traced::default() };
        let places = || Ok(Places::default());
        flights.begin(&Bytes::from_static(b"k"), asking, || None, places).expect("no limit")
    }

    /// A load that asks the store.
    fn asking(flights: &Flights, epoch: u64) -> (Begun, Option<Load>) {
        let (begun, load) = begin(flights, epoch);
        flights.ask(load.as_ref().expect("a load"), epoch);
        (begun, load)
    }

    fn published(flights: &Flights, load: Option<Load>, result: LoadResult) -> bool {
        let mut put = false;
        flights.publish(load.expect("a load"), result, |_, _| put = true);
        put
    }

    #[test]
    fn a_key_is_quiet_when_nobody_loads_or_writes_it() {
        let flights = Arc::new(Flights::default());
        let is_quiet = || flights.replace(b"k", |is_quiet| is_quiet);
        assert!(is_quiet());
        let (_, passed) = asking(&flights, 0);
        assert!(!is_quiet(), "it is loaded");
        assert!(!is_quiet(), "the load that was passed may have read something newer");
        assert!(!published(&flights, passed, entry("new")));
        assert!(is_quiet());
        let write = flights.queue_one(&Bytes::from_static(b"k"), |_| None);
        assert!(!is_quiet(), "it is written");
        drop(write);
        let watched = flights.watch(&Bytes::from_static(b"k"));
        assert!(is_quiet() && watched.load(SeqCst), "whoever watches it hears of the change");
    }

    #[test]
    fn a_load_that_an_invalidation_passed_never_fills_the_cache() {
        let flights = Flights::default();
        let (_, old) = asking(&flights, 0);
        flights.detach(b"k", || ());
        let (_, new) = begin(&flights, 0);
        assert!(new.is_some(), "a reader after the invalidation must not join the old load");
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[test]
    fn a_load_of_another_epoch_is_not_joined() {
        let flights = Flights::default();
        let (_, old) = asking(&flights, 0);
        let (_, new) = begin(&flights, 1);
        assert!(new.is_some());
        assert!(begin(&flights, 2).1.is_none(), "one that has not asked will ask in the epoch of then");
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[tokio::test]
    async fn waiters_share_one_result_and_a_failure_is_not_for_ever() {
        let flights = Flights::default();
        let (first, load) = begin(&flights, 0);
        let (second, none) = begin(&flights, 0);
        assert!(none.is_none());
        assert!(!published(&flights, load, Err(StoreError::Unavailable("away".into()))));
        for begun in [first, second] {
            let Begun::Joined(waiter) = begun else { panic!("joined") };
            assert!(waiter.wait().await.is_err());
        }
        assert!(begin(&flights, 0).1.is_some(), "the next reader tries again");
    }

    #[tokio::test]
    async fn a_load_asks_when_the_one_before_it_has_ended_and_no_change_lets_another_begin_meanwhile() {
        let flights = Flights::default();
        let (_, old) = asking(&flights, 0);
        flights.detach(b"k", || ());
        let mut next = begin(&flights, 0).1.expect("a load");
        flights.detach(b"k", || ());
        assert!(begin(&flights, 0).1.is_none(), "the next load has not asked: it will see the change");
        let mut comes = Box::pin(next.comes());
        assert!(futures_util::poll!(&mut comes).is_pending(), "what the old one reads may be newer");
        assert!(!published(&flights, old, entry("old")));
        assert!(comes.await.is_none());
        assert!(!flights.ask(&next, 0), "what a write left before the change is not taken");
        assert!(published(&flights, Some(next), entry("new")));
    }

    #[tokio::test]
    async fn a_write_begins_when_a_load_that_a_change_passed_has_ended() {
        let flights = Arc::new(Flights::default());
        let (_, old) = asking(&flights, 0);
        flights.detach(b"k", || ());
        let mut write = queued(&flights);
        assert!(futures_util::poll!(Box::pin(write.comes())).is_pending(), "what it reads may be newer");
        drop(old);
        write.comes().await;
        assert!(kept(write, entry("written")));
        assert!(flights.keys().is_empty());
    }

    fn queued(flights: &Arc<Flights>) -> super::WriteTurn {
        flights.queue(&[Bytes::from_static(b"k")], |_| None).pop().expect("one")
    }

    fn kept(turn: super::WriteTurn, left: LoadResult) -> bool {
        let mut put = false;
        turn.end(Outcome::MayHaveChanged, left.ok(), |_, left| put = left.is_some());
        put
    }

    #[tokio::test]
    async fn a_load_waits_for_the_writes_before_it_and_a_write_detaches_it() {
        let flights = Arc::new(Flights::default());
        let (_, old) = begin(&flights, 0);
        let first = queued(&flights);
        assert!(!published(&flights, old, entry("read before the write")));
        let (_, behind) = begin(&flights, 0);
        let second = queued(&flights);
        let after = behind.expect("a load").after.take().expect("a write comes first");
        assert!(!kept(first, entry("one")), "another write has queued");
        assert!(after.ended().await.is_some(), "those who waited for it may have it");
        assert!(kept(second, entry("two")));
        assert!(begin(&flights, 0).1.expect("a load").after.is_none(), "nothing goes on any more");
    }

    #[tokio::test]
    async fn a_change_overtakes_a_write_that_has_not_ended() {
        let flights = Arc::new(Flights::default());
        let write = queued(&flights);
        let after = begin(&flights, 0).1.expect("a load").after.take().expect("a write comes first");
        flights.detach(b"k", || ());
        assert!(!kept(write, entry("perhaps older than the change")));
        assert!(after.ended().await.is_none());
        drop(queued(&flights));
        assert!(begin(&flights, 0).1.expect("a load").after.is_none(), "a write that was dropped has ended");
    }

    #[test]
    fn a_watcher_hears_of_writes_that_may_have_changed_the_key_and_of_no_other() {
        let flights = Arc::new(Flights::default());
        let touched = flights.watch(&Bytes::from_static(b"k"));
        queued(&flights).end(Outcome::Unchanged, None, |_, _| ());
        let write = queued(&flights);
        assert!(!touched.load(SeqCst), "what has not ended has changed nothing that can be read");
        write.end(Outcome::MayHaveChanged, None, |_, _| ());
        assert!(touched.load(SeqCst));
        let touched = flights.watch(&Bytes::from_static(b"k"));
        drop(queued(&flights));
        assert!(touched.load(SeqCst), "nobody knows what became of it");
    }

    /// A client that sees whether some key is locked while it is told.
    #[derive(Debug)]
    struct Looking {
        flights: Weak<Flights>,
        /// How often it was told, and how often of these while a key was locked.
        told: [AtomicUsize; 2],
    }

    impl Looking {
        fn look(&self) {
            let flights = self.flights.upgrade().expect("they are there");
            let is_locked = flights.shards.iter().any(|shard| shard.try_lock().is_err());
            self.told[0].fetch_add(1, SeqCst);
            self.told[1].fetch_add(usize::from(is_locked), SeqCst);
        }
    }

    impl Ear for Looking {
        fn hears(&self, _: &Bytes) {
            self.look();
        }

        fn hears_of(&self, _: &Bytes, _: &Bytes) {
            self.look();
        }

        fn hears_all(&self) {}
    }

    #[test]
    fn who_keeps_a_key_is_told_when_it_is_not_locked_and_who_reads_what_a_write_left_is_not() {
        let tracking = Arc::new(Tracking::default());
        let flights = Arc::new(Flights::telling(tracking.clone(), Arc::default()));
        let ear = Arc::new(Looking { flights: Arc::downgrade(&flights), told: Default::default() });
        let reader = tracking.enter(ear.clone(), Manner::default());
        let told = || ear.told.each_ref().map(|count| count.swap(0, SeqCst));
        let reads = |text| reader.reads(b"k", Tick::NEVER, || entry(text).expect("an entry").print());
        reads("old");
        // As soon as it is in memory somebody may be given it.
        queued(&flights).end(Outcome::MayHaveChanged, entry("new").ok(), |_, _| reads("new"));
        assert_eq!(told(), [1, 0], "of the old one, once");
        assert!(tracking.has(b"k"), "the new one is kept");
        queued(&flights).end(Outcome::Unchanged, entry("new").ok(), |_, _| ());
        assert_eq!(told(), [0, 0]);
        queued(&flights).end(Outcome::Unchanged, entry("other").ok(), |_, _| ());
        assert_eq!(told(), [1, 0]);
        reads("other");
        let (_, load) = asking(&flights, 0);
        assert!(published(&flights, load, entry("third")));
        assert_eq!(told(), [1, 0]);
        reads("third");
        let write = queued(&flights);
        flights.detach(b"k", || ());
        write.end(Outcome::Unchanged, None, |_, _| ());
        assert_eq!(told(), [1, 0], "what it has read may be older");
        reads("third");
        drop(queued(&flights));
        assert_eq!(told(), [1, 0], "nobody knows what became of it");
    }

    #[tokio::test]
    async fn a_load_that_is_dropped_leaves_nobody_waiting() {
        let flights = Flights::default();
        let (begun, load) = begin(&flights, 0);
        drop(load);
        assert!(begin(&flights, 0).1.is_some(), "the next reader tries again");
        let Begun::Joined(waiter) = begun else { panic!("joined") };
        assert!(waiter.wait().await.is_err());
    }
}
