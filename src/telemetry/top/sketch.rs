//! The keys that come most often among many, in little memory: Space-Saving. Each counter has a key; a key without one
//! takes the smallest, and counts on from there, so that what is often there is never missed and may be overrated by as
//! much as that.
//!
//! Source: Metwally, Agrawal, El Abbadi, Efficient Computation of Frequent and Top-k Elements in Data Streams (2005)

use std::collections::HashMap;

use bytes::Bytes;

/// So many keys have counters.
pub(super) const COUNTERS: usize = 512;

/// A longer key is known by its beginning.
const LONGEST: usize = 256;

/// What is known of one key.
#[derive(Clone, Debug)]
struct Counter {
    hash: u64,
    key: Bytes,
    count: u64,
}

/// The counters, the smallest at the root: a heap.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    heap: Vec<Counter>,
    /// Where the counter of a hash stands in the heap.
    places: HashMap<u64, usize, foldhash::fast::FixedState>,
}

impl Sketch {
    /// Counts a key with this hash.
    pub(super) fn add(&mut self, hash: u64, key: &[u8], weight: u64) {
        if let Some(at) = self.places.get(&hash).copied() {
            self.heap[at].count += weight;
            return self.sink(at);
        }
        let key = Bytes::copy_from_slice(&key[..key.len().min(LONGEST)]);
        if self.heap.len() < COUNTERS {
            self.heap.push(Counter { hash, key, count: weight });
            self.places.insert(hash, self.heap.len() - 1);
            return self.rise(self.heap.len() - 1);
        }
        let smallest = &mut self.heap[0];
        self.places.remove(&smallest.hash);
        *smallest = Counter { hash, key, count: smallest.count + weight };
        self.places.insert(hash, 0);
        self.sink(0);
    }

    /// Every key that has a counter, with its count.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Bytes, u64)> {
        self.heap.iter().map(|counter| (&counter.key, counter.count))
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.places.clear();
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for at in [a, b] {
            self.places.insert(self.heap[at].hash, at);
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let children = (2 * at + 1..=2 * at + 2).filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].count) else { return };
            if self.heap[least].count >= self.heap[at].count {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.heap[(at - 1) / 2].count > self.heap[at].count {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::{COUNTERS, LONGEST, Sketch};

    fn add(sketch: &mut Sketch, key: &str, weight: u64) {
        sketch.add(foldhash::fast::FixedState::default().hash_one(key), key.as_bytes(), weight);
    }

    #[test]
    fn what_is_often_there_has_a_counter_however_many_others_come() {
        let mut sketch = Sketch::default();
        for i in 0..200_000_u64 {
            add(&mut sketch, &format!("cold:{i}"), 1);
            add(&mut sketch, &format!("hot:{}", i % 10), 1);
        }
        assert_eq!((sketch.heap.len(), sketch.places.len()), (COUNTERS, COUNTERS));
        for hot in 0..10 {
            let name = format!("hot:{hot}");
            let found = sketch.all().find(|(key, _)| **key == name.as_bytes()).map(|(_, count)| count);
            assert!(found.is_some_and(|count| (20_000..21_000).contains(&count)), "{name}: {found:?}");
        }
        assert!(sketch.heap.iter().enumerate().all(|(at, counter)| sketch.places[&counter.hash] == at));
    }

    #[test]
    fn a_long_key_costs_no_more_than_its_beginning() {
        let mut sketch = Sketch::default();
        add(&mut sketch, &"x".repeat(100_000), 3);
        assert_eq!(sketch.all().map(|(key, count)| (key.len(), count)).collect::<Vec<_>>(), [(LONGEST, 3)]);
    }
}
