//! Since when a key's row may be another one than a standby shows: the number of the sounding that a standby must have
//! reached before the key is read there. Many keys share a mark, so that there are never more of them; a mark that is
//! another key's only asks for more than is needed. Knows no standby.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// So many marks there are.
const COUNT: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Marks {
    /// That of all keys.
    floor: AtomicU64,
    each: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Marks {
    fn default() -> Self {
        let each = std::iter::repeat_with(AtomicU64::default).take(COUNT).collect();
        Self { floor: AtomicU64::new(0), each, hasher: RandomState::new() }
    }
}

impl Marks {
    fn mark(&self, key: &[u8]) -> Option<&AtomicU64> {
        self.each.get(self.hasher.hash_one(key) as usize % COUNT)
    }

    /// The highest of these keys.
    pub(super) fn of<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> u64 {
        let each = keys.into_iter().filter_map(|key| Some(self.mark(key)?.load(SeqCst)));
        each.max().unwrap_or(0).max(self.floor.load(SeqCst))
    }

    /// This key's is that high at least.
    pub(super) fn raise(&self, key: &[u8], to: u64) {
        if let Some(mark) = self.mark(key) {
            mark.fetch_max(to, SeqCst);
        }
    }

    /// Every key's is that high at least.
    pub(super) fn raise_all(&self, to: u64) {
        self.floor.fetch_max(to, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn a_mark_only_rises() {
        let marks = Marks::default();
        marks.raise(b"a", 3);
        marks.raise(b"a", 2);
        assert_eq!((marks.of([&b"a"[..]]), marks.of([])), (3, 0));
        marks.raise_all(2);
        assert_eq!((marks.of([&b"a"[..]]), marks.of([])), (3, 2));
        marks.raise(b"b", 5);
        assert_eq!(marks.of([&b"a"[..], b"b"]), 5);
    }
}
