//! This process's own writes, whose notices come back over the change feed. Memory already holds what they wrote, so
//! these notices invalidate nothing, for exactly the keys that were written.
//!
//! Invariants:
//! - a write whose result is not known does not count as ours, because it may be applied at any later moment;
//! - what another sidecar writes is never ours, also if it goes on from a copy of this one's memory and counts as we
//!   do: each write has a number of its own that is drawn when it begins.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;
use crate::telemetry::random_id::fresh;

/// How long the notices of a write may take, in milliseconds: far beyond any feed that is not a gap.
const KEPT: u64 = 60_000;

/// Most writes that are known; of an older one the notices are news, and its keys are read again.
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct OwnWrites {
    next: AtomicU64,
    writes: Mutex<BTreeMap<u64, Written>>,
}

/// The name of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnWrite {
    /// Its place among the writes of this sidecar.
    number: u64,
    /// Differs between sidecars.
    drawn: u64,
}

impl OwnWrite {
    /// The text that comes back with the write's notices.
    pub(crate) fn text(self) -> String {
        format!("{:016x}:{}", self.drawn, self.number)
    }

    fn read(text: &str) -> Option<Self> {
        let (drawn, number) = text.split_once(':')?;
        Some(Self { number: number.parse().ok()?, drawn: u64::from_str_radix(drawn, 16).ok()? })
    }
}

#[derive(Debug)]
struct Written {
    drawn: u64,
    keys: Vec<Bytes>,
    ended: Option<Tick>,
}

/// A write that is under way. Dropped before its end is known, it is disowned.
pub(crate) struct Own<'o> {
    own_writes: &'o OwnWrites,
    write: OwnWrite,
    is_ended: bool,
}

impl Own<'_> {
    /// The text that comes back with its notices.
    pub(crate) fn text(&self) -> String {
        self.write.text()
    }

    /// As [`OwnWrites::end`].
    pub(crate) fn end(mut self, now: Tick) {
        self.is_ended = true;
        self.own_writes.end(self.write, now);
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.own_writes.disown(self.write);
        }
    }
}

impl OwnWrites {
    fn writes(&self) -> MutexGuard<'_, BTreeMap<u64, Written>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write of these keys begins.
    pub(crate) fn begin(&self, keys: Vec<Bytes>) -> OwnWrite {
        let number = self.next.fetch_add(1, Relaxed);
        let drawn = if is_planted("origin-shared") { 0 } else { fresh() };
        let mut writes = self.writes();
        if writes.len() >= MOST {
            writes.pop_first();
        }
        writes.insert(number, Written { drawn, keys, ended: None });
        OwnWrite { number, drawn }
    }

    /// A write of these keys begins; it may be dropped.
    pub(crate) fn write(&self, keys: Vec<Bytes>) -> Own<'_> {
        Own { own_writes: self, write: self.begin(keys), is_ended: false }
    }

    /// The write has ended and memory holds nothing older.
    pub(crate) fn end(&self, write: OwnWrite, now: Tick) {
        if let Some(write) = self.writes().get_mut(&write.number) {
            write.ended = Some(now);
        }
    }

    /// Nobody knows whether, or when, the write is applied.
    pub(crate) fn disown(&self, write: OwnWrite) {
        self.writes().remove(&write.number);
    }

    /// True when a notice of this origin says nothing new about `key`.
    pub(super) fn knows(&self, from: &str, key: &[u8]) -> bool {
        OwnWrite::read(from).is_some_and(|OwnWrite { number, drawn }| {
            let writes = self.writes();
            let ours = writes.get(&number).filter(|write| write.drawn == drawn);
            ours.is_some_and(|write| write.keys.iter().any(|known| known == key))
        })
    }

    /// True when the write of this origin is ours and has ended.
    pub(crate) fn has_ended(&self, from: &str) -> bool {
        OwnWrite::read(from).is_some_and(|OwnWrite { number, drawn }| {
            let writes = self.writes();
            writes.get(&number).is_some_and(|write| write.drawn == drawn && write.ended.is_some())
        })
    }

    /// Gives back the memory of writes whose notices have long come; how many are left.
    pub(super) fn tidy(&self, now: Tick) -> usize {
        let mut writes = self.writes();
        writes.retain(|_, write| write.ended.is_none_or(|ended| now < ended.plus(KEPT)));
        writes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, OwnWrites};
    use crate::telemetry::clock::Tick;

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let own_writes = OwnWrites::default();
        let first = own_writes.begin(vec!["a".into()]);
        let last = (0..MOST).map(|_| own_writes.begin(vec!["a".into()])).last().expect("some");
        assert_eq!(own_writes.tidy(Tick::default()), MOST);
        assert!(!own_writes.knows(&first.text(), b"a") && own_writes.knows(&last.text(), b"a"));
    }

    #[test]
    fn only_known_ends_of_the_very_keys_are_no_news() {
        let (own_writes, other) = (OwnWrites::default(), OwnWrites::default());
        let write = own_writes.begin(vec!["a".into()]);
        let text = write.text();
        assert!(own_writes.knows(&text, b"a"), "the notice may come before the answer");
        assert!(!own_writes.knows(&text, b"b") && !other.knows(&text, b"a") && !own_writes.knows("nonsense", b"a"));
        assert!(!own_writes.has_ended(&text));
        own_writes.end(write, Tick::default());
        assert!(own_writes.has_ended(&text) && !other.has_ended(&text) && !own_writes.has_ended("nonsense"));
        own_writes.tidy(Tick::from_ms(59_999));
        assert!(own_writes.knows(&text, b"a"));
        own_writes.tidy(Tick::from_ms(60_000));
        assert!(!own_writes.knows(&text, b"a"));
        let write = own_writes.begin(vec!["a".into()]);
        own_writes.disown(write);
        assert!(!own_writes.knows(&write.text(), b"a"));
    }

    #[test]
    fn two_that_go_on_from_one_memory_do_not_take_each_others_writes_for_their_own() {
        // As a machine that was copied while it ran: both know what was written before, and count on alike.
        let (one, two) = (OwnWrites::default(), OwnWrites::default());
        let (first, second) = (one.begin(vec!["a".into()]), two.begin(vec!["a".into()]));
        assert_eq!(first.number, second.number);
        assert!(one.knows(&first.text(), b"a") && two.knows(&second.text(), b"a"));
        assert!(!one.knows(&second.text(), b"a") && !two.knows(&first.text(), b"a"));
    }
}
