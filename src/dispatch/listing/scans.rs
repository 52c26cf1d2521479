//! The positions of all SCANs of the process, by their cursors.
//!
//! Invariant: a position is a number or a key, never a set of definitions: what a reload has replaced is not kept for a
//! cursor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::cache::After;
use crate::keys::MappingId;
use crate::route::OWN_CURSOR;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::OwnedMetrics;
use crate::upstream::Tour;

/// Set in our cursors.
pub(super) const OURS: u64 = OWN_CURSOR;
/// Cursors that are known; the oldest are forgotten.
const MOST: usize = 10_000;
/// How long a cursor is known, in milliseconds: servers know theirs for ever, and clients may take their time.
const LIFE: u64 = 3_600_000;

/// Where a SCAN stands.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a mapping's definitions, behind this key.
    Definitions(MappingId, Option<Bytes>),
    /// In a cached mapping.
    Cached(MappingId, After),
    /// Before the upstream's iteration.
    Upstream,
    /// In a cluster's: at the master of this place of the tour, whose own cursor this is.
    Master(Arc<Tour>, usize, u64),
    /// Behind the masters: in the slots that were on their way meanwhile, from this one on.
    Slots(Arc<Tour>, u16),
}

#[derive(Debug)]
struct Standing {
    place: Place,
    since: Tick,
    /// The cursor that led here.
    before: u64,
}

#[derive(Debug, Default)]
struct Known {
    last: u64,
    /// By age: cursors count up.
    standing: BTreeMap<u64, Standing>,
}

/// The scans under way.
#[derive(Debug)]
pub struct Scans {
    known: Mutex<Known>,
    metrics: Arc<OwnedMetrics>,
}

impl Drop for Scans {
    fn drop(&mut self) {
        self.metrics.scan_cursors.dec_by(self.known().standing.len() as i64);
    }
}

impl Scans {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Arc<OwnedMetrics>) -> Self {
        Self { known: Mutex::default(), metrics }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cursor for this place, which was reached from the cursor `before`. A client may send that one again, but none
    /// of those that led to it.
    pub(crate) fn keep(&self, place: Place, before: u64) -> u64 {
        self.keep_at(place, before, Tick::now())
    }

    fn keep_at(&self, place: Place, before: u64, now: Tick) -> u64 {
        let mut known = self.known();
        let count = known.standing.len() as i64;
        if let Some(first) = known.standing.get(&before).map(|standing| standing.before) {
            known.standing.remove(&first);
        }
        known.last += 1;
        let cursor = OURS | known.last;
        known.standing.insert(cursor, Standing { place, since: now, before });
        while let Some(oldest) = known.standing.first_entry()
            && oldest.get().since.plus(LIFE) <= now
        {
            oldest.remove();
        }
        if known.standing.len() > MOST {
            known.standing.pop_first();
        }
        self.metrics.scan_cursors.inc_by(known.standing.len() as i64 - count);
        cursor
    }

    pub(super) fn find(&self, cursor: u64) -> Option<Place> {
        self.find_at(cursor, Tick::now())
    }

    fn find_at(&self, cursor: u64, now: Tick) -> Option<Place> {
        let known = self.known();
        known
            .standing
            .get(&cursor)
            .filter(|standing| now < standing.since.plus(LIFE))
            .map(|standing| standing.place.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{LIFE, MOST, Place, Scans};
    use crate::telemetry::Metrics;
    use crate::telemetry::clock::Tick;

    #[test]
    fn a_cursor_can_be_sent_again_until_its_successor_is_used() {
        let metrics = Metrics::default().owned;
        let scans = Scans::new(metrics.clone());
        let first = scans.keep(Place::Upstream, 0);
        let second = scans.keep(Place::Upstream, first);
        assert!(scans.find(first).is_some() && scans.find(second).is_some());
        let third = scans.keep(Place::Upstream, second);
        assert!(scans.find(first).is_none() && scans.find(second).is_some() && scans.find(third).is_some());
        assert_eq!(metrics.scan_cursors.get(), 2);
        drop(scans);
        assert_eq!(metrics.scan_cursors.get(), 0);
    }

    #[test]
    fn cursors_that_nobody_uses_are_forgotten() {
        let metrics = Metrics::default().owned;
        let scans = Scans::new(metrics.clone());
        let begun = Tick::from_ms(1000);
        let old = scans.keep_at(Place::Upstream, 0, begun);
        assert!(scans.find_at(old, begun.plus(LIFE - 1)).is_some() && scans.find_at(old, begun.plus(LIFE)).is_none());
        scans.keep_at(Place::Upstream, 0, begun.plus(LIFE));
        assert_eq!(metrics.scan_cursors.get(), 1);
        (0..2 * MOST).for_each(|_| assert_ne!(scans.keep_at(Place::Upstream, 0, begun.plus(LIFE + 1)), 0));
        assert_eq!(metrics.scan_cursors.get(), MOST as i64);
    }
}
