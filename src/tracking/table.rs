//! Who has read which key since it changed. Bounded in keys and in bytes: what has no room is told, as if it had
//! changed.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use super::readers::Readers;
use crate::config;
use crate::telemetry::clock::Tick;
use crate::telemetry::locked;
use crate::telemetry::metrics::TrackingMetrics;

/// The parts of a table, each with a lock of its own; a small one has one part.
const SHARDS: usize = 64;
/// With fewer keys than this in each part, there is one.
const FEW: usize = 1024;
/// What a key costs beside its bytes: its place, and its allocation.
const COST: usize = 112;
/// What the item of a key that ends by itself costs beside the key (`ends.rs`), those included that wait to be dropped.
const ITEM: usize = 64;
/// The print of what several have read who were not given the same: no value has it.
const MIXED: u32 = 0;
/// When there is no room, one key of so many goes.
const SHARE: usize = 64;

type State = foldhash::quality::RandomState;

/// One key.
#[derive(Debug)]
struct Slot {
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
    fn of(given: Given) -> Self {
        Self { readers: Readers::One(given.number), print: of_value(given.print), end: given.end }
    }

    /// One more has read the key.
    fn join(&mut self, given: Given, is_alive: impl Fn(u32) -> bool) {
        self.readers.add(given.number, is_alive);
        self.end = self.end.min(given.end);
        if self.print != of_value(given.print) {
            self.print = MIXED;
        }
    }
}

/// A print of some value.
fn of_value(print: u32) -> u32 {
    print.max(MIXED + 1)
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<Box<[u8]>, Slot, State>,
    bytes: usize,
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

fn cost(key: &[u8], slot: &Slot) -> usize {
    let item = if slot.end == Tick::NEVER { 0 } else { ITEM + key.len() };
    key.len() + COST + slot.readers.bytes() + item
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

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let at = if self.shards.len() == 1 { 0 } else { self.hasher.hash_one(key) as usize % self.shards.len() };
        locked(&self.shards[at])
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
        let mut shard = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let (known, was, is) = match shard.keys.get_mut(key) {
            Some(slot) => {
                let (known, was) = (slot.end, cost(key, slot));
                slot.join(given, is_alive);
                (known, was, cost(key, slot))
            }
            None => {
                let slot = Slot::of(given);
                let is = cost(key, &slot);
                shard.keys.insert(key.into(), slot);
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
            let taken: Vec<(Box<[u8]>, Slot)> = shard.keys.extract_if(|_, _| true).take(some).collect();
            for (key, slot) in taken {
                shard.bytes -= cost(&key, &slot);
                gone.push((key, slot.readers));
            }
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
        let mut shard = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        if !is_meant(shard.keys.get(key)?) {
            return None;
        }
        let (key, slot) = shard.keys.remove_entry(key)?;
        shard.bytes -= cost(&key, &slot);
        self.note(before, &shard);
        Some(slot.readers)
    }

    /// All keys of which this is true.
    pub(super) fn take_where(&self, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Taken> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = locked(shard);
            let before = (shard.keys.len(), shard.bytes);
            let taken: Vec<(Box<[u8]>, Slot)> = shard.keys.extract_if(|key, _| is_meant(key)).collect();
            for (key, slot) in taken {
                shard.bytes -= cost(&key, &slot);
                all.push((key, slot.readers));
            }
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
        self.shard(key).keys.contains_key(key)
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
        let shard = &mut *self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let Some(slot) = shard.keys.get_mut(key).filter(|slot| is_meant(slot.end)) else { return false };
        let was = cost(key, slot);
        slot.end = end;
        shard.bytes = shard.bytes + cost(key, slot) - was;
        self.note(before, shard);
        true
    }

    pub(super) fn is_armed(&self, key: &[u8], end: Tick) -> bool {
        self.shard(key).keys.get(key).is_some_and(|slot| slot.end == end)
    }

    /// The ends of all keys that end by themselves.
    #[cfg(test)]
    pub(super) fn ends(&self) -> Vec<(Box<[u8]>, Tick)> {
        let all = self.shards.iter().flat_map(|shard| {
            let ends = |(key, slot): (_, &Slot)| (Box::clone(key), slot.end);
            locked(shard).keys.iter().map(ends).collect::<Vec<_>>()
        });
        all.filter(|(_, end)| *end != Tick::NEVER).collect()
    }
}
