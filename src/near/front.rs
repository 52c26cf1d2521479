//! One thread's last hits: a hit here writes nothing that other threads read. What is kept here beside the blocks'
//! memory is bounded: so many short replies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fill::TOUCHED_EVERY;
use super::memory::Entry;
use super::{Near, Read};
use crate::telemetry::clock::Tick;

/// Replies that have a place of their own, and how long one of them may be with its request: about a megabyte in all.
const PLACES: usize = 512;
const LONGEST: usize = 2 << 10;

/// The place of a reply that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(usize);

/// One thread's last hits.
#[derive(Debug, Default)]
pub struct Front {
    /// Each at the place of its hash; behind them the last one that was longer. Empty where nothing is kept.
    places: Vec<Option<Arc<Entry>>>,
    /// Hits of each block that are not counted yet.
    hits: Vec<u64>,
    is_counted: bool,
}

impl Front {
    /// For what `near` keeps, if there is something.
    #[must_use]
    pub fn new(near: Option<&Arc<Near>>) -> Self {
        let Some(near) = near else { return Self::default() };
        Self { places: vec![None; PLACES + 1], hits: vec![0; near.blocks()], is_counted: true }
    }

    /// The reply to a read, if one is kept that holds.
    #[inline]
    pub fn find(&mut self, near: &Near, read: &Read<'_>, now: Tick) -> Option<Found> {
        let at = read.question.hash as usize % PLACES;
        if let Some(place) = self.places.get_mut(at)
            && let Some(entry) = place
        {
            if !near.holds(entry, now) {
                *place = None;
            } else if entry.answers(&read.question) {
                return Some(Found(at));
            }
        }
        self.find_shared(near, read, now)
    }

    fn find_shared(&mut self, near: &Near, read: &Read<'_>, now: Tick) -> Option<Found> {
        let entry = near.kept[read.block].memory.get(&read.question).filter(|entry| near.holds(entry, now))?;
        let at = if entry.length() <= LONGEST { read.question.hash as usize % PLACES } else { PLACES };
        *self.places.get_mut(at)? = Some(entry);
        Some(Found(at))
    }

    /// The bytes of the reply there, which is answered now. True with them when the upstream should be told that its
    /// keys are read: its eviction does not see it otherwise.
    pub fn reply(&mut self, found: Found, now: Tick) -> (&[u8], bool) {
        let Some(Some(entry)) = self.places.get(found.0) else { return (&[], false) };
        entry.is_asked();
        self.hits[entry.block] += 1;
        self.is_counted = false;
        let is_due = entry.touch_at.load(Ordering::Relaxed) <= now.as_ms();
        if is_due {
            entry.touch_at.store(now.plus(TOUCHED_EVERY).as_ms(), Ordering::Relaxed);
        }
        (&entry.reply[..], is_due)
    }

    /// Adds the hits to those of the process.
    #[inline]
    pub fn count(&mut self, near: &Near) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        for (hits, kept) in self.hits.iter_mut().zip(&near.kept).filter(|(hits, _)| **hits > 0) {
            kept.counts.hits.inc_by(std::mem::take(hits));
        }
    }
}

impl Near {
    /// A read was not answered from memory, and its reply may be kept.
    pub fn missed(&self, read: &Read<'_>) {
        self.kept[read.block].counts.misses.inc();
    }
}
