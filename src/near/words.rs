//! The fences of the near cache: a word for each key, which counts what has happened to the key and the writes of it
//! that are under way. What is kept of a key holds while its word is what it was before the key was read. Several keys
//! may share a word: then what happens to one ends what is kept of all.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

/// In a word the lower bits count writes that are under way, and the upper ones what has happened.
const HAPPENED: u64 = 1 << 24;
const UNDER_WAY: u64 = HAPPENED - 1;

/// So many words there are, half a megabyte of them.
const WORDS: usize = 1 << 16;

/// What has happened to a key, and how many writes of it are under way.
#[derive(Debug, Default)]
pub(super) struct Word(AtomicU64);

impl Word {
    /// A write begins: what was kept holds no more, and nothing is kept before the write has ended.
    pub(super) fn begin(&self) {
        self.0.fetch_add(HAPPENED + 1, Ordering::SeqCst);
    }

    /// The write has ended.
    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Something has changed the key: what was kept holds no more.
    pub(super) fn change(&self) {
        self.0.fetch_add(HAPPENED, Ordering::SeqCst);
    }

    /// What it is now.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// What it is now, if nothing is under way.
    pub(super) fn quiet(&self) -> Option<u64> {
        let now = self.0.load(Ordering::SeqCst);
        (now & UNDER_WAY == 0).then_some(now)
    }
}

/// The place of a key's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

/// A key's word, as it was before the key was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) place: Place,
    pub(super) word: u64,
}

/// The words of all keys.
#[derive(Debug)]
pub(super) struct Words {
    words: Box<[Word]>,
    hasher: RandomState,
}

impl Default for Words {
    fn default() -> Self {
        Self { words: std::iter::repeat_with(Word::default).take(WORDS).collect(), hasher: RandomState::default() }
    }
}

impl Words {
    /// Where the word of `key` is.
    pub(super) fn place(&self, key: &[u8]) -> Place {
        Place(self.hasher.hash_one(key) as u32 & (WORDS as u32 - 1))
    }

    /// The word there.
    #[inline]
    pub(super) fn at(&self, place: Place) -> &Word {
        &self.words[place.0 as usize & (WORDS - 1)]
    }

    /// The word of `key` as it is now, if no write of it is under way.
    pub(super) fn fence(&self, key: &[u8]) -> Option<Fence> {
        let place = self.place(key);
        Some(Fence { place, word: self.at(place).quiet()? })
    }

    /// Nothing has happened since `fence`.
    #[inline]
    pub(super) fn holds(&self, fence: Fence) -> bool {
        self.at(fence.place).now() == fence.word
    }

    /// The same fence as it would be now.
    pub(super) fn renewed(&self, fence: Fence) -> Fence {
        Fence { word: self.at(fence.place).now(), ..fence }
    }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn a_fence_holds_until_something_happens_to_its_key() {
        let words = Words::default();
        let fence = words.fence(b"a").expect("quiet");
        assert!(words.holds(fence));
        words.at(fence.place).change();
        assert!(!words.holds(fence) && words.holds(words.fence(b"a").expect("quiet")));
    }

    #[test]
    fn while_a_write_is_under_way_there_is_no_fence_and_after_it_none_of_before_holds() {
        let words = Words::default();
        let fence = words.fence(b"a").expect("quiet");
        let word = words.at(fence.place);
        word.begin();
        word.begin();
        assert!(words.fence(b"a").is_none() && !words.holds(fence));
        word.end();
        assert!(words.fence(b"a").is_none());
        word.end();
        assert!(words.fence(b"a").is_some_and(|now| now != fence) && !words.holds(fence));
    }
}
