//! A version number for every key, raised before a change of what memory holds for the key is acknowledged. The cache
//! of each thread is checked against it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::telemetry::planted::is_planted;

/// Keys share versions; a change of one costs the others a look-up among all entries.
const VERSIONS: usize = 4096;

/// The version of every key.
#[derive(Debug)]
pub(super) struct Versions {
    hasher: foldhash::quality::RandomState,
    versions: Box<[AtomicU64]>,
}

impl Default for Versions {
    fn default() -> Self {
        let versions = (0..VERSIONS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: foldhash::quality::RandomState::default(), versions }
    }
}

impl Versions {
    fn cell(&self, hash: u64) -> &AtomicU64 {
        &self.versions[hash as usize % VERSIONS]
    }

    /// The hash of `key`, the same for as long as this lives; nobody outside of the process knows which key has which.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The version of the key of this hash.
    pub(super) fn of(&self, hash: u64) -> u64 {
        self.cell(hash).load(SeqCst)
    }

    /// What is known of `key` is no longer what was known.
    pub(super) fn raise(&self, key: &[u8]) {
        if is_planted("version-not-raised") {
            return;
        }
        self.cell(self.hash(key)).fetch_add(1, SeqCst);
    }
}
