//! What a warm start still has to load of one mapping, the hottest first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cache::entry::Use;
use crate::cache::memory::waiting::LoadResult;
use crate::store::StoreError;

/// A key, and its last use, as the list implies it.
pub(super) type HotKey = (Bytes, Use);

/// The keys of one mapping.
#[derive(Debug)]
pub(super) struct Left {
    /// The epoch in which they are loaded: what was loaded in another has been forgotten.
    epoch: u64,
    /// Not asked for in this round.
    waiting: VecDeque<HotKey>,
    /// Asked for in this round, and worth another attempt.
    failed: Vec<HotKey>,
    loaded: Vec<HotKey>,
}

impl Left {
    pub(super) fn new(keys: impl Iterator<Item = HotKey>) -> Self {
        Self { epoch: 0, waiting: keys.collect(), failed: Vec::new(), loaded: Vec::new() }
    }

    /// Those that are not loaded.
    pub(super) fn keys(&self) -> impl Iterator<Item = &HotKey> {
        self.waiting.iter().chain(&self.failed)
    }

    /// Forgets those that are not meant.
    pub(super) fn only(&mut self, is_meant: impl Fn(&[u8]) -> bool) {
        self.waiting.retain(|(key, _)| is_meant(key));
        self.failed.retain(|(key, _)| is_meant(key));
    }

    /// The next keys to ask for, which stay until it is known what became of them.
    pub(super) fn next(&self, most: usize) -> Vec<HotKey> {
        self.waiting.iter().take(most).cloned().collect()
    }

    /// Notes what became of the next keys. False when none of them got an answer: it is of no use to ask for the others
    /// now. Where some did, the others wait behind those that were not asked for.
    pub(super) fn asked(&mut self, results: &[LoadResult]) -> bool {
        let asked: Vec<HotKey> = self.waiting.drain(..results.len()).collect();
        let has_failed = |result: &LoadResult| result.as_ref().is_err_and(StoreError::is_of_the_moment);
        let is_answered = !results.iter().all(has_failed);
        for (result, key) in results.iter().zip(asked) {
            match result {
                Ok(_) => self.loaded.push(key),
                Err(_) if has_failed(result) && is_answered => self.waiting.push_back(key),
                Err(_) if has_failed(result) => self.failed.push(key),
                // Whoever asks for it is told the reason.
                Err(_) => {}
            }
        }
        is_answered
    }

    /// The epoch is this one: what was loaded in another has been forgotten, and waits again.
    pub(super) fn is_in(&mut self, epoch: u64) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.waiting.extend(self.loaded.drain(..));
        }
    }

    /// A round has ended: what failed waits for the next.
    pub(super) fn round_is_over(&mut self) {
        self.waiting.extend(self.failed.drain(..));
    }
}
