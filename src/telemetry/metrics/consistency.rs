//! How consistent cached keys are with the store, as far as the verifier has looked: verified hits, those that were
//! stale, and both as nines.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;

/// A hit counts as stale within so many minutes when its record had been loaded longer ago than that.
pub const MINUTES: [u64; 4] = [0, 1, 5, 10];

/// The label of what is counted by a record's age.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OlderThan {
    /// Minutes since the record was loaded.
    older_than_minutes: u64,
}

/// Of one process.
#[derive(Debug)]
pub struct ConsistencyMetrics {
    verified: Counter,
    stale: Family<OlderThan, Counter>,
    nines: Family<OlderThan, Gauge<f64, AtomicU64>>,
}

impl ConsistencyMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        let metrics = Self {
            verified: r.counter("verified", "Cached hits that were compared with the store"),
            stale: r.family_of(
                "stale_hits",
                "Verified hits that were stale, by the age of what they were answered from, in minutes. Alarm on it",
                MINUTES.map(|older_than_minutes| OlderThan { older_than_minutes }),
            ),
            nines: r.family(
                "consistency_nines",
                "The share of verified hits that were not stale for longer than so many minutes, as nines: 3 is 99.9 %",
            ),
        };
        metrics.show();
        metrics
    }

    /// Counts so many hits that were compared with the store.
    pub fn verified(&self, hits: u64) {
        self.verified.inc_by(hits);
        self.show();
    }

    /// Counts so many of them that were answered from a stale record of this age, in milliseconds.
    pub fn stale(&self, hits: u64, age: u64) {
        for minutes in MINUTES.into_iter().filter(|minutes| age >= minutes * 60_000) {
            self.stale.get_or_create(&OlderThan { older_than_minutes: minutes }).inc_by(hits);
        }
        self.show();
    }

    /// How many hits were compared with the store.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.verified.get()
    }

    /// How many of them were stale, of records older than so many minutes.
    #[must_use]
    pub fn stale_hits(&self, older_than_minutes: u64) -> u64 {
        self.stale.get_or_create(&OlderThan { older_than_minutes }).get()
    }

    /// The nines of records older than so many minutes.
    #[must_use]
    pub fn nines(&self, older_than_minutes: u64) -> f64 {
        nines(self.hits(), self.stale_hits(older_than_minutes))
    }

    /// Every label is shown from the beginning, so that the first stale hit is a rise from 0.
    fn show(&self) {
        for older_than_minutes in MINUTES {
            self.nines.get_or_create(&OlderThan { older_than_minutes }).set(self.nines(older_than_minutes));
        }
    }
}

/// The share of hits that were not stale, as a number of nines. With no stale hit it is what so many hits can show: as
/// if the next one were stale.
fn nines(verified: u64, stale: u64) -> f64 {
    (verified.max(1) as f64 / stale.max(1) as f64).log10().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::nines;

    #[test]
    fn nines_are_what_the_verified_hits_can_show() {
        assert_eq!((nines(0, 0), nines(1000, 0), nines(1000, 1), nines(1000, 1000)), (0.0, 3.0, 3.0, 0.0));
        assert_eq!(nines(1_000_000, 100), 4.0);
    }

    #[test]
    fn a_stale_hit_counts_for_every_age_that_its_record_had() {
        let consistency = &Metrics::default().cache.consistency;
        consistency.verified(1000);
        consistency.stale(10, 6 * 60_000);
        assert_eq!([0, 1, 5, 10].map(|minutes| consistency.stale_hits(minutes)), [10, 10, 10, 0]);
        assert_eq!([0, 10].map(|minutes| consistency.nines(minutes)), [2.0, 3.0]);
    }

    #[test]
    fn every_age_is_shown_before_anything_was_verified() {
        let text = Metrics::default().render(super::super::Format::Prometheus);
        for minutes in super::MINUTES {
            for name in ["stale_hits_total", "consistency_nines"] {
                let line = format!("hearthside_{name}{{older_than_minutes=\"{minutes}\"}} 0");
                assert!(text.contains(&line), "{line}");
            }
        }
    }
}
