//! Our own writes, whose notices come back over the change feed. Memory already holds what they left, so those notices
//! are no news, for exactly the keys that were written so.
//!
//! Invariant: a write whose end is not known is not ours any more, for it may be applied at any later moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// How long the notices of a write may take, in milliseconds: far beyond any feed that is not a gap.
const KEPT: u64 = 60_000;

/// Most writes that are known; of an older one the notices are news, and its keys are read again.
const MOST: usize = 100_000;

#[derive(Debug)]
pub(super) struct Origins {
    /// Differs between sidecars, and between two starts of one.
    instance: String,
    next: AtomicU64,
    writes: Mutex<BTreeMap<u64, Written>>,
}

#[derive(Debug)]
struct Written {
    keys: Vec<Bytes>,
    ended: Option<u64>,
}

/// A write that is under way. Dropped before its end is known, it is disowned.
pub(super) struct Own<'o> {
    origins: &'o Origins,
    number: u64,
    is_ended: bool,
}

impl Own<'_> {
    /// The text that comes back with its notices.
    pub(super) fn text(&self) -> String {
        self.origins.text(self.number)
    }

    /// As [`Origins::end`].
    pub(super) fn end(mut self, now: u64) {
        self.is_ended = true;
        self.origins.end(self.number, now);
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.origins.disown(self.number);
        }
    }
}

impl Default for Origins {
    fn default() -> Self {
        let instance = format!("{:016x}", fastrand::u64(..));
        Self { instance, next: AtomicU64::new(0), writes: Mutex::default() }
    }
}

impl Origins {
    fn writes(&self) -> MutexGuard<'_, BTreeMap<u64, Written>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write of these keys begins: its number.
    pub(super) fn begin(&self, keys: Vec<Bytes>) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        let mut writes = self.writes();
        if writes.len() >= MOST {
            writes.pop_first();
        }
        writes.insert(number, Written { keys, ended: None });
        number
    }

    /// A write of these keys begins; it may be dropped.
    pub(super) fn write(&self, keys: Vec<Bytes>) -> Own<'_> {
        Own { origins: self, number: self.begin(keys), is_ended: false }
    }

    /// The text that comes back with the notices of a write.
    pub(super) fn text(&self, number: u64) -> String {
        format!("{}:{number}", self.instance)
    }

    /// The write has ended and memory holds nothing older.
    pub(super) fn end(&self, number: u64, now: u64) {
        if let Some(write) = self.writes().get_mut(&number) {
            write.ended = Some(now);
        }
    }

    /// Nobody knows whether, or when, the write is applied.
    pub(super) fn disown(&self, number: u64) {
        self.writes().remove(&number);
    }

    /// True when a notice of this origin says nothing new about `key`.
    pub(super) fn knows(&self, from: &str, key: &[u8]) -> bool {
        let number = from.strip_prefix(&self.instance).and_then(|rest| rest.strip_prefix(':')?.parse().ok());
        number.is_some_and(|number: u64| {
            self.writes().get(&number).is_some_and(|write| write.keys.iter().any(|known| known == key))
        })
    }

    /// Gives back the memory of writes whose notices have long come; how many are left.
    pub(super) fn tidy(&self, now: u64) -> usize {
        let mut writes = self.writes();
        writes.retain(|_, write| write.ended.is_none_or(|ended| now < ended + KEPT));
        writes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Origins};

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let origins = Origins::default();
        let first = origins.begin(vec!["a".into()]);
        let last = (0..MOST).map(|_| origins.begin(vec!["a".into()])).last().expect("some");
        assert_eq!(origins.tidy(0), MOST);
        assert!(!origins.knows(&origins.text(first), b"a") && origins.knows(&origins.text(last), b"a"));
    }

    #[test]
    fn only_known_ends_of_the_very_keys_are_no_news() {
        let (origins, other) = (Origins::default(), Origins::default());
        let number = origins.begin(vec!["a".into()]);
        let text = origins.text(number);
        assert!(origins.knows(&text, b"a"), "the notice may come before the answer");
        assert!(!origins.knows(&text, b"b") && !other.knows(&text, b"a") && !origins.knows("nonsense", b"a"));
        origins.end(number, 0);
        origins.tidy(59_999);
        assert!(origins.knows(&text, b"a"));
        origins.tidy(60_000);
        assert!(!origins.knows(&text, b"a"));
        let number = origins.begin(vec!["a".into()]);
        origins.disown(number);
        assert!(!origins.knows(&origins.text(number), b"a"));
    }
}
