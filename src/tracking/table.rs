//! Who has read which key since it changed. Bounded in keys and in bytes: what has no room is told, as if it had
//! changed.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashTable;

use super::readers::Readers;
use crate::config;
use crate::telemetry::clock::Tick;
use crate::telemetry::locked;
use crate::telemetry::metrics::TrackingMetrics;

/// The parts of a table, each with a lock of its own; a small one has one part.
const SHARDS: usize = 64;
/// With fewer keys than this in each part, there is one.
const FEW: usize = 1024;
/// What a key costs beside its bytes: its place, which is nine bytes in a table that is seven to fourteen sixteenths
/// full, and its two allocations.
const COST: usize = 80;
/// What the item of a key that ends by itself costs beside the key (`ends.rs`), those included that wait to be dropped.
const ITEM: usize = 64;
/// The print of what several have read who were not given the same: no value has it.
const MIXED: u32 = 0;
/// When there is no room, one key of so many goes.
const SHARE: usize = 64;

type State = foldhash::quality::RandomState;

/// One key. It lies beside the table, whose places are a third empty on average: there may be millions.
#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    readers: Readers,
    /// What the key held when it was read, or [`MIXED`].
    print: u32,
    /// The earliest end that any of them was told of. Unless that is [`Tick::NEVER`], there is an item of it in `Ends`,
    /// or whoever has noted it here is about to put it there.
    end: Tick,
}

/// What a client is given of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// The number of the client.
    pub(super) number: u32,
    /// What the key holds.
    pub(super) print: u32,
    /// When it ends by itself.
    pub(super) end: Tick,
}

impl Slot {
    fn of(key: &[u8], given: Given) -> Self {
        Self { key: key.into(), readers: Readers::One(given.number), print: of_value(given.print), end: given.end }
    }

    /// One more has read the key.
    fn join(&mut self, given: Given, is_alive: impl Fn(u32) -> bool) {
        self.readers.add(given.number, is_alive);
        self.end = self.end.min(given.end);
        if self.print != of_value(given.print) {
            self.print = MIXED;
        }
    }

    /// What it costs.
    fn cost(&self) -> usize {
        let item = if self.end == Tick::NEVER { 0 } else { ITEM + self.key.len() };
        self.key.len() + COST + self.readers.bytes() + item
    }

    fn taken(self) -> Taken {
        (self.key, self.readers)
    }
}

/// A print of some value.
fn of_value(print: u32) -> u32 {
    print.max(MIXED + 1)
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashTable<Box<Slot>>,
    bytes: usize,
}

impl Shard {
    fn get(&self, hash: u64, key: &[u8]) -> Option<&Slot> {
        self.keys.find(hash, |slot| *slot.key == *key).map(|slot| &**slot)
    }

    fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Slot> {
        self.keys.find_mut(hash, |slot| *slot.key == *key).map(|slot| &mut **slot)
    }

    /// Removes a key of which this is true.
    fn remove_if(&mut self, hash: u64, key: &[u8], is_meant: impl FnOnce(&Slot) -> bool) -> Option<Taken> {
        let found = self.keys.find_entry(hash, |slot| *slot.key == *key).ok()?;
        if !is_meant(found.get()) {
            return None;
        }
        let (slot, _) = found.remove();
        self.bytes -= slot.cost();
        Some(slot.taken())
    }

    /// Removes some of those of which this is true.
    fn remove_where(&mut self, most: usize, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Taken> {
        let taken: Vec<Box<Slot>> = self.keys.extract_if(|slot| is_meant(&slot.key)).take(most).collect();
        self.bytes -= taken.iter().map(|slot| slot.cost()).sum::<usize>();
        taken.into_iter().map(|slot| slot.taken()).collect()
    }
}

/// A key and who has read it.
pub(super) type Taken = (Box<[u8]>, Readers);

#[derive(Debug)]
pub(super) struct Table {
    hasher: State,
    shards: Vec<Mutex<Shard>>,
    /// Of each part.
    max_keys: usize,
    max_bytes: usize,
    metrics: Arc<TrackingMetrics>,
}

impl Table {
    pub(super) fn new(settings: &config::Tracking, metrics: Arc<TrackingMetrics>) -> Self {
        let is_small = settings.max_keys < SHARDS * FEW || settings.max_bytes.0 < SHARDS * FEW * COST;
        let count = if is_small { 1 } else { SHARDS };
        Self {
            hasher: State::default(),
            shards: (0..count).map(|_| Mutex::default()).collect(),
            max_keys: settings.max_keys / count,
            max_bytes: settings.max_bytes.0 / count,
            metrics,
        }
    }

    /// A key's hash, and its part, which other bits of that say than its place there.
    fn shard(&self, key: &[u8]) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        (hash, locked(&self.shards[(hash >> 32) as usize % self.shards.len()]))
    }

    /// Counts what has become of a part.
    fn note(&self, before: (usize, usize), shard: &Shard) {
        let (keys, bytes) = (shard.keys.len(), shard.bytes);
        self.metrics.keys.inc_by(keys as i64 - before.0 as i64);
        self.metrics.bytes.inc_by(bytes as i64 - before.1 as i64);
    }

    /// Notes that a client is given this of a key. Whether the key ends earlier than was known, and what had to go for
    /// it.
    pub(super) fn add(&self, key: &[u8], given: Given, is_alive: impl Fn(u32) -> bool) -> (bool, Vec<Taken>) {
        let (hash, mut shard) = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let (known, was, is) = match shard.get_mut(hash, key) {
            Some(slot) => {
                let (known, was) = (slot.end, slot.cost());
                slot.join(given, is_alive);
                (known, was, slot.cost())
            }
            None => {
                let slot = Box::new(Slot::of(key, given));
                let is = slot.cost();
                shard.keys.insert_unique(hash, slot, |slot| self.hasher.hash_one(&*slot.key));
                (Tick::NEVER, 0, is)
            }
        };
        shard.bytes = shard.bytes + is - was;
        let pushed_out = self.make_room(&mut shard);
        self.note(before, &shard);
        (given.end < known, pushed_out)
    }

    fn make_room(&self, shard: &mut Shard) -> Vec<Taken> {
        let mut gone = Vec::new();
        while shard.keys.len() > self.max_keys || shard.bytes > self.max_bytes && !shard.keys.is_empty() {
            let some = (shard.keys.len() / SHARE).max(1);
            gone.append(&mut shard.remove_where(some, |_| true));
        }
        gone
    }

    /// Who has read a key; nobody from now on.
    pub(super) fn take(&self, key: &[u8]) -> Option<Readers> {
        self.take_if(key, |_| true)
    }

    /// The same, unless the key held what has this print when they read it.
    pub(super) fn take_unless(&self, key: &[u8], print: impl FnOnce() -> u32) -> Option<Readers> {
        self.take_if(key, |slot| slot.print != of_value(print()))
    }

    fn take_if(&self, key: &[u8], is_meant: impl FnOnce(&Slot) -> bool) -> Option<Readers> {
        let (hash, mut shard) = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let (_, readers) = shard.remove_if(hash, key, is_meant)?;
        self.note(before, &shard);
        Some(readers)
    }

    /// All keys of which this is true.
    pub(super) fn take_where(&self, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Taken> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = locked(shard);
            let before = (shard.keys.len(), shard.bytes);
            all.append(&mut shard.remove_where(usize::MAX, &is_meant));
            self.note(before, &shard);
        }
        all
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            let before = (shard.keys.len(), shard.bytes);
            *shard = Shard::default();
            self.note(before, &shard);
        }
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        let (hash, shard) = self.shard(key);
        shard.get(hash, key).is_some()
    }

    /// So many keys, about.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.metrics.keys.get()).unwrap_or(0)
    }

    /// A key ends at this moment; false if nobody has read it, or it ends earlier.
    pub(super) fn arm(&self, key: &[u8], end: Tick) -> bool {
        self.change_end(key, end, |known| end < known)
    }

    /// The moment has come; false if the key does not end then.
    pub(super) fn disarm(&self, key: &[u8], end: Tick) -> bool {
        self.change_end(key, Tick::NEVER, |known| known == end)
    }

    fn change_end(&self, key: &[u8], end: Tick, is_meant: impl FnOnce(Tick) -> bool) -> bool {
        let (hash, mut shard) = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let Some(slot) = shard.get_mut(hash, key).filter(|slot| is_meant(slot.end)) else { return false };
        let was = slot.cost();
        slot.end = end;
        let is = slot.cost();
        shard.bytes = shard.bytes + is - was;
        self.note(before, &shard);
        true
    }

    pub(super) fn is_armed(&self, key: &[u8], end: Tick) -> bool {
        let (hash, shard) = self.shard(key);
        shard.get(hash, key).is_some_and(|slot| slot.end == end)
    }

    /// The ends of all keys that end by themselves.
    #[cfg(test)]
    pub(super) fn ends(&self) -> Vec<(Box<[u8]>, Tick)> {
        let all = self
            .shards
            .iter()
            .flat_map(|shard| locked(shard).keys.iter().map(|slot| (slot.key.clone(), slot.end)).collect::<Vec<_>>());
        all.filter(|(_, end)| *end != Tick::NEVER).collect()
    }
}
