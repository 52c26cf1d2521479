//! Chooses the hits that the verifier checks.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cache::entry::Entry;
use crate::config;
use crate::keys::MappingId;

/// Hits that may wait to be verified; more are dropped, and not counted as verified.
const WAITING: usize = 8192;

/// A hit that was chosen.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) mapping: MappingId,
    pub(crate) key: Bytes,
    pub(crate) entry: Arc<Entry>,
}

/// Chooses one hit of so many.
#[derive(Debug)]
pub(crate) struct Sampler {
    every: u32,
    samples: mpsc::Sender<Sample>,
}

thread_local! {
    /// Hits of this thread until the next that is chosen; none before the first.
    static COUNTDOWN: Cell<Option<u32>> = const { Cell::new(None) };
}

impl Sampler {
    /// A sampler, and the receiving end of what it chooses.
    pub(crate) fn new(settings: &config::Verify) -> (Self, mpsc::Receiver<Sample>) {
        let (samples, chosen) = mpsc::channel(WAITING);
        (Self { every: settings.sample, samples }, chosen)
    }

    /// Counts a hit, and perhaps chooses it.
    pub(super) fn saw(&self, mapping: MappingId, key: &[u8], entry: &Arc<Entry>) {
        if self.every == 0 {
            return;
        }
        // The first is chosen at random, so that short lives are not all looked at in the same way.
        let left = COUNTDOWN.get().unwrap_or_else(|| fastrand::u32(..self.every));
        COUNTDOWN.set(Some(left.checked_sub(1).unwrap_or(self.every - 1)));
        if left == 0 {
            // Too many wait: a later hit will be chosen.
            let sample = Sample { mapping, key: Bytes::copy_from_slice(key), entry: entry.clone() };
            let _full = self.samples.try_send(sample);
        }
    }
}
