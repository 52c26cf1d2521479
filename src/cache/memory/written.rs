//! Which writes are under way, and which keys were written that the upstream does not have as they are (`mirror =
//! true`). Their values are looked up when they are brought there: a key is noted once, however often it was written.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::loads::{Flights, locked};
use crate::keys::Pattern;

/// So many keys are remembered.
const MOST: usize = 500_000;

/// Keys that were written.
#[derive(Debug, Default)]
pub(crate) struct WrittenKeys {
    /// The keys that are noted.
    wanted: Vec<Pattern>,
    keys: Mutex<HashSet<Bytes>>,
    /// More were written than are remembered.
    has_lost: AtomicBool,
}

impl WrittenKeys {
    fn keys(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        locked(&self.keys)
    }

    /// A key was written, or may have been.
    pub(super) fn note(&self, key: &Bytes) {
        if self.wanted.iter().any(|pattern| pattern.matches(key)) {
            let mut keys = self.keys();
            match keys.len() < MOST || keys.contains(key) {
                true => drop(keys.insert(key.clone())),
                false => self.has_lost.store(true, Relaxed),
            }
        }
    }

    /// Takes at most so many keys of those that are meant.
    pub(crate) fn take(&self, most: usize, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        let mut keys = self.keys();
        let taken: Vec<Bytes> = keys.iter().filter(|key| is_meant(key)).take(most).cloned().collect();
        taken.iter().for_each(|key| drop(keys.take(key)));
        taken
    }

    /// Keys that could not be brought over: they wait again.
    pub(crate) fn give_back(&self, keys: Vec<Bytes>) {
        keys.iter().for_each(|key| self.note(key));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        if self.wanted.is_empty() { 0 } else { self.keys().len() }
    }

    /// True once more were written than are remembered.
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.load(Relaxed)
    }
}

impl Flights {
    /// Nothing goes on yet. Of these keys those are noted whose writes have ended.
    pub(super) fn noting(wanted: Vec<Pattern>) -> Self {
        let mut flights = Self::default();
        flights.written.wanted = wanted;
        flights
    }

    /// Writes that have queued and not ended.
    pub(super) fn writes(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).values().map(|slot| slot.turns.len()).sum::<usize>()).sum()
    }

    /// True when a write of a key has queued and not ended, of one that `is_meant`.
    pub(super) fn writes_some(&self, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| locked(shard).iter().any(|(key, slot)| !slot.turns.is_empty() && is_meant(key)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Flights, Pattern};

    #[test]
    fn a_key_is_noted_once_and_taken_by_those_who_mean_it() {
        let patterns = ["a:{x}", "b:{x}"].map(|text| Pattern::parse(text).expect("a pattern"));
        let written = Flights::noting(patterns.into()).written;
        for key in ["a:1", "b:1", "a:1", "c:1", "a:2"] {
            written.note(&Bytes::from(key));
        }
        assert_eq!(written.len(), 3);
        let mut taken = written.take(9, |key| key.starts_with(b"a"));
        taken.sort();
        assert_eq!(taken, ["a:1", "a:2"]);
        assert_eq!(written.len(), 1);
        written.give_back(taken);
        assert_eq!((written.take(2, |_| true).len(), written.len(), written.has_lost()), (2, 1, false));
        let unwanted = Flights::noting(Vec::new()).written;
        unwanted.note(&Bytes::from("a:1"));
        assert_eq!((unwanted.len(), unwanted.take(9, |_| true)), (0, Vec::new()));
    }
}
