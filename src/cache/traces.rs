//! Why keys of one mapping were last forgotten. A few hundred of them are remembered, by a hash of the key, and what
//! concerned the whole mapping last: what that costs does not grow.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cause::Cause;
use crate::telemetry::clock::{Tick, UnixMs};

/// All mappings together remember so many keys, and each of them at least `LEAST`.
const ALL: usize = 16 * 1024;
const LEAST: usize = 256;

/// What happened to a key, or to the whole mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Why.
    pub cause: Cause,
    /// When: of a TTL, when it was over.
    pub at: Tick,
    /// The same by the wall clock, as it was then.
    pub moment: UnixMs,
    /// True where everything of the mapping was forgotten.
    pub is_of_mapping: bool,
    /// Of two at one moment the later has the greater number.
    number: u64,
}

/// Those of one mapping, for everybody who forgets its keys.
#[derive(Debug)]
pub(super) struct KeyTraces {
    hasher: foldhash::quality::RandomState,
    traces: Mutex<Traces>,
}

impl KeyTraces {
    /// Of one mapping among so many.
    pub(super) fn among(mappings: usize) -> Self {
        Self { hasher: foldhash::quality::RandomState::default(), traces: Mutex::new(Traces::among(mappings)) }
    }

    fn lock(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why a key was forgotten at this moment, or what has taken the place of what was in memory.
    pub(super) fn note(&self, key: &[u8], cause: Cause, at: Tick) {
        let hash = self.hasher.hash_one(key);
        self.lock().note(hash, cause, at);
    }

    /// Notes why everything of the mapping is forgotten.
    pub(super) fn note_all(&self, cause: Cause) {
        self.lock().note_all(cause, Tick::now());
    }

    /// Why a key was last forgotten.
    pub(super) fn last(&self, key: &[u8]) -> Option<Trace> {
        let hash = self.hasher.hash_one(key);
        self.lock().last(hash).cloned()
    }
}

#[derive(Debug)]
struct Traces {
    most: usize,
    keys: HashMap<u64, Trace>,
    /// The keys, those first that came first.
    order: VecDeque<u64>,
    whole: Option<Trace>,
    number: u64,
}

impl Traces {
    fn among(mappings: usize) -> Self {
        let most = (ALL / mappings.max(1)).max(LEAST);
        Self { most, keys: HashMap::new(), order: VecDeque::new(), whole: None, number: 0 }
    }

    fn trace(&mut self, cause: Cause, at: Tick, is_of_mapping: bool) -> Trace {
        self.number += 1;
        let ago = i64::try_from(Tick::now().since(at)).unwrap_or(i64::MAX);
        Trace { cause, at, moment: UnixMs::now().plus(-ago), is_of_mapping, number: self.number }
    }

    fn note(&mut self, hash: u64, cause: Cause, at: Tick) {
        if self.keys.get(&hash).is_some_and(|known| known.at > at) {
            return;
        }
        let trace = self.trace(cause, at, false);
        if self.keys.insert(hash, trace).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > self.most
            && let Some(first) = self.order.pop_front()
        {
            self.keys.remove(&first);
        }
    }

    fn note_all(&mut self, cause: Cause, at: Tick) {
        self.whole = Some(self.trace(cause, at, true));
    }

    /// What happened last to the key with this hash.
    fn last(&self, hash: u64) -> Option<&Trace> {
        self.keys.get(&hash).into_iter().chain(&self.whole).max_by_key(|trace| (trace.at, trace.number))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Cause, LEAST, Traces};
    use crate::telemetry::clock::Tick;

    #[test]
    fn the_last_thing_that_happened_to_a_key_or_its_mapping_is_told() {
        let mut traces = Traces::among(1);
        let last = |traces: &Traces| traces.last(1).map(|trace| (trace.cause.name(), trace.is_of_mapping));
        assert_eq!(last(&traces), None);
        traces.note(1, Cause::Write(None), Tick::from_ms(5));
        traces.note(2, Cause::Evicted, Tick::from_ms(6));
        assert_eq!(last(&traces), Some(("write", false)));
        traces.note_all(Cause::Gap, Tick::from_ms(7));
        assert_eq!(last(&traces), Some(("gap", true)));
        traces.note(1, Cause::Change(None), Tick::from_ms(7));
        assert_eq!(last(&traces), Some(("change", false)), "of one moment the later counts");
        // That a TTL was over is known late.
        traces.note_all(Cause::Reload, Tick::from_ms(9));
        traces.note(1, Cause::Ttl, Tick::from_ms(8));
        assert_eq!(last(&traces), Some(("reload", true)));
        traces.note(1, Cause::Write(None), Tick::from_ms(12));
        traces.note(1, Cause::Ttl, Tick::from_ms(11));
        assert_eq!(last(&traces), Some(("write", false)));
    }

    #[test]
    fn memory_is_bounded_however_many_keys_and_mappings_there_are() {
        for mappings in [1, 4, 400] {
            let mut traces = Traces::among(mappings);
            (0..3 * ALL as u64).for_each(|hash| traces.note(hash, Cause::Ttl, Tick::from_ms(hash)));
            let most = (ALL / mappings).max(LEAST);
            assert_eq!((traces.keys.len(), traces.order.len()), (most, most));
            assert!(traces.last(3 * ALL as u64 - 1).is_some() && traces.last(0).is_none());
        }
    }
}
