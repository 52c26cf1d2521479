//! Loads and writes in flight: at most one load that counts per key, and the writes of a key one after the other.
//!
//! Invariants, each under the key's shard lock:
//! - a reader joins a key's flight only while the flight is in the map and of the current epoch;
//! - `detach` takes the flight out, and with it its right to publish, in one step with forgetting the key (hazards 1, 2, 25);
//! - `publish` puts an entry on the shelf only if its own flight is still in the map;
//! - a write detaches the load when it queues, and begins when that has ended: a pipeline's read does not see the write
//!   behind it; loads that begin before the write has ended begin after it;
//! - a write puts what it left on the shelf only if no change was told, and no other write queued, since it queued;
//! - a flight or write that is dropped unended tells its waiters so: nobody waits for ever.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::cache::Entry;
use crate::cache::writes::watched::Watchers;
use crate::store::StoreError;
use crate::telemetry::planted::is_planted;

/// What a load ends with.
pub type LoadResult = Result<Arc<Entry>, StoreError>;

const SHARDS: usize = 64;

type Shard = HashMap<Bytes, Slot>;

#[derive(Debug)]
pub(crate) struct Flights {
    hasher: foldhash::quality::RandomState,
    shards: Vec<Mutex<Shard>>,
    /// Held while several keys queue for one write, so that two such writes queue everywhere in the same order.
    several: Mutex<()>,
}

/// What goes on with one key.
#[derive(Debug, Default)]
struct Slot {
    flight: Option<Arc<Flight>>,
    /// Writes that have queued and not ended, in their order.
    turns: VecDeque<Arc<Turn>>,
    watchers: Watchers,
}

/// One load.
#[derive(Debug)]
pub(crate) struct Flight {
    epoch: u64,
    done: watch::Sender<Option<LoadResult>>,
}

/// One write's place in its key's queue.
#[derive(Debug)]
struct Turn {
    /// A change was told since it queued: what it will know of the key may be older than that.
    overtaken: AtomicBool,
    ended: watch::Sender<Option<WriteOutcome>>,
}

/// What a write leaves for those who waited: the entry, where it is known.
type WriteOutcome = Option<Arc<Entry>>;

/// A reader's part in a load.
pub(crate) enum Begun {
    /// It was loaded in the meantime.
    There(Arc<Entry>),
    /// It is being loaded.
    Joined(Waiter),
}

/// Waits for a flight.
#[derive(Debug)]
pub(crate) struct Waiter(watch::Receiver<Option<LoadResult>>);

impl Waiter {
    pub(crate) async fn wait(mut self) -> LoadResult {
        match self.0.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or_else(|| Err(given_up())),
            Err(_) => Err(given_up()),
        }
    }
}

/// The writes that a load or write must wait for.
#[derive(Debug)]
pub(crate) struct Predecessor(watch::Receiver<Option<WriteOutcome>>);

impl Predecessor {
    /// Waits for the end of the last of them; what it left.
    pub(crate) async fn ended(mut self) -> WriteOutcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(left) => left.clone().flatten(),
            Err(_) => None,
        }
    }
}

/// The right to run a key's load, and perhaps to publish it.
#[derive(Debug)]
pub(crate) struct Load {
    key: Bytes,
    flight: Arc<Flight>,
    /// The writes that come first.
    pub(crate) after: Option<Predecessor>,
}

impl Load {
    pub(crate) const fn key(&self) -> &Bytes {
        &self.key
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.flight.epoch
    }
}

impl Drop for Load {
    /// A load that ends without a result (its task was stopped) must not keep its key's readers waiting.
    fn drop(&mut self) {
        self.flight.done.send_if_modified(|done| {
            let unpublished = done.is_none();
            done.get_or_insert_with(|| Err(given_up()));
            unpublished
        });
    }
}

/// The right to write a key when those before have ended. Dropped, it ends and leaves nothing in memory.
#[derive(Debug)]
pub(crate) struct WriteTurn {
    key: Bytes,
    turn: Arc<Turn>,
    flights: Arc<Flights>,
    /// The write that comes first.
    pub(crate) after: Option<Predecessor>,
    /// The load that comes first: its readers asked before this write and must not see it.
    pub(crate) load: Option<Waiter>,
    /// What was in memory when it queued.
    pub(crate) before: Option<Arc<Entry>>,
}

impl WriteTurn {
    pub(crate) const fn key(&self) -> &Bytes {
        &self.key
    }

    /// Ends the write: `left` is what is true of the key now, if that is known.
    pub(crate) fn end(self, left: Option<Arc<Entry>>, put: impl FnOnce(&Bytes, &Arc<Entry>)) {
        self.flights.end(&self, left, put);
    }
}

impl Drop for WriteTurn {
    fn drop(&mut self) {
        // Nothing is left of it in the queue after `end`.
        self.flights.end(self, None, |_, _| {});
    }
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the load was given up".into())
}

impl Flight {
    fn is_joinable(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.done.borrow().is_none()
    }
}

impl Slot {
    fn after(&self) -> Option<Predecessor> {
        self.turns.back().map(|turn| Predecessor(turn.ended.subscribe()))
    }
}

/// Gives a slot's memory back when nothing goes on with its key.
fn tidy(shard: &mut Shard, key: &[u8]) {
    if shard.get(key).is_some_and(|slot| slot.flight.is_none() && slot.turns.is_empty() && slot.watchers.is_empty()) {
        shard.remove(key);
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            several: Mutex::default(),
        }
    }
}

/// Nothing panics while one is held; what it guards is whole even so.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        locked(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    /// Joins the key's flight, or begins one and gives its lead. `there` is asked again under the lock, so that a
    /// reader that just missed a publication does not load once more.
    pub(crate) fn begin(
        &self,
        key: &Bytes,
        epoch: u64,
        there: impl FnOnce() -> Option<Arc<Entry>>,
    ) -> (Begun, Option<Load>) {
        let mut shard = self.shard(key);
        let slot = shard.get(key);
        if let Some(flight) = slot.and_then(|slot| slot.flight.as_ref()).filter(|flight| flight.is_joinable(epoch)) {
            return (Begun::Joined(Waiter(flight.done.subscribe())), None);
        }
        let after = slot.and_then(Slot::after);
        if let Some(entry) = there().filter(|_| after.is_none()) {
            return (Begun::There(entry), None);
        }
        // The key may be a slice of a client's buffer: the map must not pin that.
        let key = Bytes::copy_from_slice(key);
        let flight = Arc::new(Flight { epoch, done: watch::Sender::new(None) });
        let waiter = Waiter(flight.done.subscribe());
        shard.entry(key.clone()).or_default().flight = Some(flight.clone());
        (Begun::Joined(waiter), Some(Load { key, flight, after }))
    }

    /// Ends a load: its waiters get the result; `put` gets the entry if the load still counts.
    pub(crate) fn publish(&self, lead: Load, result: LoadResult, put: impl FnOnce(&Bytes, &Arc<Entry>)) {
        {
            let mut shard = self.shard(&lead.key);
            if is_planted("no-generation-check")
                && let Ok(entry) = &result
            {
                put(&lead.key, entry);
                lead.flight.done.send_replace(Some(result));
                return;
            }
            let flight = shard.get_mut(&lead.key).map(|slot| &mut slot.flight);
            if let Some(flight) = flight.filter(|f| f.as_ref().is_some_and(|f| Arc::ptr_eq(f, &lead.flight))) {
                *flight = None;
                if let Ok(entry) = &result {
                    put(&lead.key, entry);
                }
                tidy(&mut shard, &lead.key);
            }
        }
        lead.flight.done.send_replace(Some(result));
    }

    /// Takes the right to publish from the key's load and writes, and does `forget` in the same step.
    pub(crate) fn detach<T>(&self, key: &[u8], forget: impl FnOnce() -> T) -> T {
        self.overtake(key, |slot| slot.watchers.touch(), forget)
    }

    /// The same, for what changes nothing that a client could see: nobody who watches is told.
    pub(crate) fn settle(&self, key: &[u8], f: impl FnOnce()) {
        self.overtake(key, |_| (), f);
    }

    /// What a load or write of the key that is under way has read may be older than what `f` makes true.
    fn overtake<T>(&self, key: &[u8], tell: impl FnOnce(&mut Slot), f: impl FnOnce() -> T) -> T {
        let mut shard = self.shard(key);
        if let Some(slot) = shard.get_mut(key) {
            slot.flight = None;
            slot.turns.iter().for_each(|turn| turn.overtaken.store(true, SeqCst));
            tell(slot);
            tidy(&mut shard, key);
        }
        f()
    }

    /// Tells whether anything happens to `key` from now on, for as long as the answer is kept.
    pub(crate) fn watch(&self, key: &Bytes) -> Arc<AtomicBool> {
        self.shard(key).entry(Bytes::copy_from_slice(key)).or_default().watchers.add()
    }

    /// Writes that have queued and not ended.
    pub(crate) fn writes(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).values().map(|slot| slot.turns.len()).sum::<usize>()).sum()
    }

    /// Forgets those who watch no more.
    pub(crate) fn tidy(&self) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.retain(|_, slot| slot.flight.is_some() || !slot.turns.is_empty() || !slot.watchers.is_empty());
        }
    }

    /// Queues a write of each key; `forget` takes a key out of memory, in the same step.
    pub(crate) fn queue(
        self: &Arc<Self>,
        keys: &[Bytes],
        forget: impl Fn(&Bytes) -> Option<Arc<Entry>>,
    ) -> Vec<WriteTurn> {
        let _several = (keys.len() > 1).then(|| locked(&self.several));
        keys.iter().map(|key| self.queue_one(key, &forget)).collect()
    }

    /// Queues a write of one key, as [`Flights::queue`].
    pub(crate) fn queue_one(self: &Arc<Self>, key: &Bytes, forget: impl Fn(&Bytes) -> Option<Arc<Entry>>) -> WriteTurn {
        let mut shard = self.shard(key);
        let turn = Arc::new(Turn { overtaken: AtomicBool::new(false), ended: watch::Sender::new(None) });
        let key = Bytes::copy_from_slice(key);
        let slot = shard.entry(key.clone()).or_default();
        slot.watchers.touch();
        if is_planted("join-after-write") {
            let after = slot.after();
            slot.turns.push_back(turn.clone());
            return WriteTurn { before: forget(&key), key, turn, flights: self.clone(), after, load: None };
        }
        let load = slot.flight.take().map(|flight| Waiter(flight.done.subscribe()));
        let after = slot.after();
        slot.turns.push_back(turn.clone());
        WriteTurn { before: forget(&key), key, turn, flights: self.clone(), after, load }
    }

    fn end(&self, right: &WriteTurn, left: Option<Arc<Entry>>, put: impl FnOnce(&Bytes, &Arc<Entry>)) {
        let left = {
            let mut shard = self.shard(&right.key);
            let Some(slot) = shard.get_mut(&right.key) else { return };
            let Some(at) = slot.turns.iter().position(|turn| Arc::ptr_eq(turn, &right.turn)) else { return };
            let is_last = at + 1 == slot.turns.len();
            slot.turns.remove(at);
            tidy(&mut shard, &right.key);
            let left = left.filter(|_| !right.turn.overtaken.load(SeqCst));
            if let Some(entry) = left.as_ref().filter(|_| is_last) {
                put(&right.key, entry);
            }
            left
        };
        right.turn.ended.send_replace(Some(left));
    }

    /// The keys that are being loaded or written.
    pub(crate) fn keys(&self) -> Vec<Bytes> {
        self.shards.iter().flat_map(|shard| locked(shard).keys().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Begun, Flights, Load, LoadResult};
    use crate::cache::memory::entry::Span;
    use crate::config;
    use crate::record::Record;
    use crate::store::StoreError;

    fn entry(text: &str) -> LoadResult {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Span::new(&block, &config::Cache::default());
        Ok(Arc::new(life.entry(Record::string(text.as_bytes()).ok(), 0, 0, 0)))
    }

    fn lead(flights: &Flights, epoch: u64) -> (Begun, Option<Load>) {
        flights.begin(&Bytes::from_static(b"k"), epoch, || None)
    }

    fn published(flights: &Flights, lead: Option<Load>, result: LoadResult) -> bool {
        let mut put = false;
        flights.publish(lead.expect("a lead"), result, |_, _| put = true);
        put
    }

    #[test]
    fn a_load_that_an_invalidation_passed_never_fills_the_cache() {
        let flights = Flights::default();
        let (_, old) = lead(&flights, 0);
        flights.detach(b"k", || ());
        let (_, new) = lead(&flights, 0);
        assert!(new.is_some(), "a reader after the invalidation must not join the old load");
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[test]
    fn a_load_of_another_epoch_is_not_joined() {
        let flights = Flights::default();
        let (_, old) = lead(&flights, 0);
        let (_, new) = lead(&flights, 1);
        assert!(new.is_some());
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[tokio::test]
    async fn waiters_share_one_result_and_a_failure_is_not_for_ever() {
        let flights = Flights::default();
        let (first, leads) = lead(&flights, 0);
        let (second, none) = lead(&flights, 0);
        assert!(none.is_none());
        assert!(!published(&flights, leads, Err(StoreError::Unavailable("away".into()))));
        for begun in [first, second] {
            let Begun::Joined(waiter) = begun else { panic!("joined") };
            assert!(waiter.wait().await.is_err());
        }
        assert!(lead(&flights, 0).1.is_some(), "the next reader tries again");
    }

    fn right(flights: &Arc<Flights>) -> super::WriteTurn {
        flights.queue(&[Bytes::from_static(b"k")], |_| None).pop().expect("one")
    }

    fn kept(right: super::WriteTurn, left: LoadResult) -> bool {
        let mut put = false;
        right.end(left.ok(), |_, _| put = true);
        put
    }

    #[tokio::test]
    async fn a_load_waits_for_the_writes_before_it_and_a_write_detaches_it() {
        let flights = Arc::new(Flights::default());
        let (_, old) = lead(&flights, 0);
        let first = right(&flights);
        assert!(!published(&flights, old, entry("read before the write")));
        let (_, behind) = lead(&flights, 0);
        let second = right(&flights);
        let after = behind.expect("a lead").after.take().expect("a write comes first");
        assert!(!kept(first, entry("one")), "another write has queued");
        assert!(after.ended().await.is_some(), "those who waited for it may have it");
        assert!(kept(second, entry("two")));
        assert!(lead(&flights, 0).1.expect("a lead").after.is_none(), "nothing goes on any more");
    }

    #[tokio::test]
    async fn a_change_overtakes_a_write_that_has_not_ended() {
        let flights = Arc::new(Flights::default());
        let write = right(&flights);
        let after = lead(&flights, 0).1.expect("a lead").after.take().expect("a write comes first");
        flights.detach(b"k", || ());
        assert!(!kept(write, entry("perhaps older than the change")));
        assert!(after.ended().await.is_none());
        drop(right(&flights));
        assert!(lead(&flights, 0).1.expect("a lead").after.is_none(), "a write that was dropped has ended");
    }

    #[tokio::test]
    async fn a_lead_that_is_dropped_leaves_nobody_waiting() {
        let flights = Flights::default();
        let (begun, leads) = lead(&flights, 0);
        drop(leads);
        assert!(lead(&flights, 0).1.is_some(), "the next reader tries again");
        let Begun::Joined(waiter) = begun else { panic!("joined") };
        assert!(waiter.wait().await.is_err());
    }
}
