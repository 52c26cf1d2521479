//! What is counted of one mapping, for as long as the process lives: a reload that keeps its pattern goes on with it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::labels::Outcome;
use crate::config::Mode;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::locked;

/// What is counted of one mapping.
#[derive(Debug, Default)]
pub struct MappingCounts {
    hits: Mutex<Hits>,
    misses: AtomicU64,
    loads: [AtomicU64; 3],
    load_micros: AtomicU64,
    invalidations: AtomicU64,
    evictions: AtomicU64,
    errors: AtomicU64,
    /// A [`UnixMs`]; 0 before the first.
    changed_at: AtomicI64,
    last_error: Mutex<Option<Failure>>,
    /// Entries and bytes, as they were last looked at.
    room: [AtomicU64; 2],
    /// The place of its mode among all of them, and its percentage.
    mode: [AtomicU64; 2],
}

/// Hits that found a record, and those that found that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "see above")]
pub struct HitCount {
    pub present: u64,
    pub absent: u64,
}

/// Loads by their outcome, and what they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "see above")]
pub struct LoadCount {
    pub ok: u64,
    pub absent: u64,
    pub failed: u64,
    pub micros: u64,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see above")]
pub struct Failure {
    pub at: UnixMs,
    pub text: String,
}

/// The hits that one thread counts. Nobody else writes them: that needs no locked instruction.
#[derive(Debug, Default)]
pub struct HitCell([AtomicU64; 2]);

impl HitCell {
    /// Counts a hit.
    #[inline]
    pub fn count(&self, is_there: bool) {
        let counter = &self.0[usize::from(!is_there)];
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn read(&self) -> HitCount {
        HitCount { present: self.0[0].load(Relaxed), absent: self.0[1].load(Relaxed) }
    }
}

/// The hits of all threads.
#[derive(Debug, Default)]
struct Hits {
    cells: Vec<Arc<HitCell>>,
    /// Of cells that nobody counts with any more.
    ended: HitCount,
}

impl Hits {
    /// Keeps what has been counted with cells that only this knows, and no more than that of them.
    fn tidy(&mut self) {
        let ended = self.cells.extract_if(.., |cell| Arc::strong_count(cell) == 1);
        self.ended = ended.fold(self.ended, |sum, cell| sum.and(cell.read()));
    }

    fn sum(&self) -> HitCount {
        self.cells.iter().fold(self.ended, |sum, cell| sum.and(cell.read()))
    }
}

impl HitCount {
    const fn and(self, other: Self) -> Self {
        Self { present: self.present + other.present, absent: self.absent + other.absent }
    }
}

impl MappingCounts {
    /// The mapping is in this mode, for so many of a hundred keys.
    pub fn is_in(&self, mode: Mode, percent: u8) {
        let at = Mode::ALL.iter().position(|other| *other == mode).unwrap_or_default();
        self.mode.iter().zip([at as u64, u64::from(percent)]).for_each(|(cell, now)| cell.store(now, Relaxed));
    }

    /// The mode and the percentage that were told last.
    pub(super) fn mode(&self) -> (Mode, u64) {
        let [at, percent] = [0, 1].map(|at| self.mode[at].load(Relaxed));
        (Mode::ALL.get(at as usize).copied().unwrap_or_default(), percent)
    }

    /// What one thread counts its hits with.
    pub fn hit_cell(&self) -> Arc<HitCell> {
        let mut hits = locked(&self.hits);
        hits.tidy();
        let cell = Arc::<HitCell>::default();
        hits.cells.push(cell.clone());
        cell
    }

    /// All hits.
    #[must_use]
    pub fn hits(&self) -> HitCount {
        locked(&self.hits).sum()
    }

    /// A read found nothing in memory, and needed a load, or joined one.
    pub fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    /// So many entries of so many bytes are in memory now.
    pub fn holds(&self, entries: u64, bytes: u64) {
        self.room[0].store(entries, Relaxed);
        self.room[1].store(bytes, Relaxed);
    }

    /// How many entries were in memory when that was last looked at, and their bytes.
    pub(super) fn room(&self) -> [u64; 2] {
        [0, 1].map(|at: usize| self.room[at].load(Relaxed))
    }

    /// Counts a load that took so many microseconds.
    pub fn loaded(&self, outcome: Outcome, micros: u64) {
        let at = match outcome {
            Outcome::Absent => 1,
            Outcome::Error => 2,
            Outcome::Ok | Outcome::Hit | Outcome::Miss => 0,
        };
        self.loads[at].fetch_add(1, Relaxed);
        self.load_micros.fetch_add(micros, Relaxed);
    }

    /// All loads.
    #[must_use]
    pub fn loads(&self) -> LoadCount {
        let [ok, absent, failed] = [0, 1, 2].map(|at: usize| self.loads[at].load(Relaxed));
        LoadCount { ok, absent, failed, micros: self.load_micros.load(Relaxed) }
    }

    /// A change of its rows has been told, which a write of ours may have made.
    pub fn changed(&self) {
        self.changed_at.store(UnixMs::now().as_ms(), Relaxed);
    }

    /// When a change of its rows was last told.
    #[must_use]
    pub fn changed_at(&self) -> Option<UnixMs> {
        Some(self.changed_at.load(Relaxed)).filter(|at| *at > 0).map(UnixMs::from_ms)
    }

    /// A key of it was forgotten, or all of them at once.
    pub fn invalidated(&self) {
        self.invalidations.fetch_add(1, Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Relaxed)
    }

    /// A record had to go because memory is full.
    pub fn evicted(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Something of it went wrong.
    pub fn failed(&self, text: &str) {
        self.errors.fetch_add(1, Relaxed);
        *locked(&self.last_error) = Some(Failure { at: UnixMs::now(), text: text.to_owned() });
    }

    /// How often, and the last time.
    #[must_use]
    pub fn failures(&self) -> (u64, Option<Failure>) {
        (self.errors.load(Relaxed), locked(&self.last_error).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{HitCount, MappingCounts};

    #[test]
    fn hits_of_threads_that_have_ended_are_kept() {
        let counts = MappingCounts::default();
        for _ in 0..10 {
            let cell = counts.hit_cell();
            cell.count(true);
            cell.count(true);
            cell.count(false);
        }
        let last = counts.hit_cell();
        last.count(true);
        assert_eq!(counts.hits(), HitCount { present: 21, absent: 10 });
        assert_eq!(super::locked(&counts.hits).cells.len(), 1, "no memory is kept of those that have ended");
    }
}
