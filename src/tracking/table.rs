//! Who has read which key since it changed. Bounded in keys and in bytes: what has no room is told, as if it had
//! changed.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use super::readers::Readers;
use crate::config;
use crate::telemetry::locked;
use crate::telemetry::metrics::TrackingMetrics;

/// The parts of a table, each with a lock of its own; a small one has one part.
const SHARDS: usize = 64;
/// With fewer keys than this in each part, there is one.
const FEW: usize = 1024;
/// What a key costs beside its bytes: its place, and its allocation.
const COST: usize = 96;
/// When there is no room, one key of so many goes.
const SHARE: usize = 64;

type State = foldhash::quality::RandomState;

/// One key.
#[derive(Debug)]
struct Slot {
    readers: Readers,
    /// What the key held when it was read.
    print: u32,
    /// The item by which it ends, or 0.
    armed: u32,
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
    key.len() + COST + slot.readers.bytes()
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

    /// Notes that this client has read a key. Whether nothing is known of its end, and what had to go for it.
    pub(super) fn add(
        &self,
        key: &[u8],
        number: u32,
        print: impl FnOnce() -> u32,
        is_alive: impl Fn(u32) -> bool,
    ) -> (bool, Vec<Taken>) {
        let mut shard = self.shard(key);
        let before = (shard.keys.len(), shard.bytes);
        let ends = match shard.keys.get_mut(key) {
            Some(slot) => {
                let was = cost(key, slot);
                slot.readers.add(number, is_alive);
                let (is, ends) = (cost(key, slot), slot.armed == 0);
                shard.bytes = shard.bytes + is - was;
                ends
            }
            None => {
                let slot = Slot { readers: Readers::One(number), print: print(), armed: 0 };
                shard.bytes += cost(key, &slot);
                shard.keys.insert(key.into(), slot);
                true
            }
        };
        let pushed_out = self.make_room(&mut shard);
        self.note(before, &shard);
        (ends, pushed_out)
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
        self.take_if(key, |slot| slot.print != print())
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

    /// A key ends by this item; false if nobody has read it, or it ends by another.
    pub(super) fn arm(&self, key: &[u8], item: u32) -> bool {
        let mut shard = self.shard(key);
        let Some(slot) = shard.keys.get_mut(key).filter(|slot| slot.armed == 0) else { return false };
        slot.armed = item;
        true
    }

    /// The item has come; false if the key does not end by it.
    pub(super) fn disarm(&self, key: &[u8], item: u32) -> bool {
        let mut shard = self.shard(key);
        let Some(slot) = shard.keys.get_mut(key).filter(|slot| slot.armed == item) else { return false };
        slot.armed = 0;
        true
    }

    pub(super) fn is_armed(&self, key: &[u8], item: u32) -> bool {
        self.shard(key).keys.get(key).is_some_and(|slot| slot.armed == item)
    }
}
