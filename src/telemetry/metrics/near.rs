//! What is counted of the near cache, by block.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeysLabel {
    keys: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    keys: String,
    reason: &'static str,
}

const REASONS: [&str; 4] = ["changed", "error", "long", "unknown"];

/// Of the near cache.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct NearMetrics {
    hits: Family<KeysLabel, Counter>,
    misses: Family<KeysLabel, Counter>,
    refused: Family<RefusedLabel, Counter>,
    invalidations: Family<KeysLabel, Counter>,
    entries: Family<KeysLabel, Gauge>,
    bytes: Family<KeysLabel, Gauge>,
    pub up: Gauge,
    pub gaps: Counter,
}

/// Those of one block.
#[derive(Debug)]
#[allow(missing_docs, reason = "they are named as the metrics are")]
pub struct NearCounts {
    pub hits: Counter,
    pub misses: Counter,
    refused: Vec<(&'static str, Counter)>,
    pub invalidations: Counter,
    pub entries: Gauge,
    pub bytes: Gauge,
}

impl NearCounts {
    /// A reply was not kept for this reason.
    pub fn refuse(&self, reason: &'static str) {
        if let Some((_, counter)) = self.refused.iter().find(|(name, _)| *name == reason) {
            counter.inc();
        }
    }
}

impl NearMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            hits: r.family("near_hits", "Reads of pass-through keys answered from memory, by block ([[near]])"),
            misses: r.family("near_misses", "Reads that went to the upstream and whose reply might be kept, by block"),
            refused: r.family(
                "near_refused",
                "Replies that were not kept, by block and reason (changed: a key changed, or may have, before the \
                 reply came; error: the reply is one; long: it is too long; unknown: the upstream did not say when the \
                 key ends)",
            ),
            invalidations: r.family("near_invalidations", "Changes that the upstream told of, by block"),
            entries: r.family("near_entries", "Replies in memory, by block"),
            bytes: r.family("near_bytes", "Memory of these replies in bytes, by block"),
            up: r.gauge("near_up", "1 while the upstream tells what changes, so that replies are kept"),
            gaps: r.counter("near_gaps", "Times in which changes may not have been told: everything was forgotten"),
        }
    }

    /// Those of a block, which are shown from now on.
    #[must_use]
    pub fn of(&self, keys: &str) -> NearCounts {
        let label = || KeysLabel { keys: keys.to_owned() };
        let refused =
            |reason| (reason, self.refused.get_or_create_owned(&RefusedLabel { keys: keys.to_owned(), reason }));
        NearCounts {
            hits: self.hits.get_or_create_owned(&label()),
            misses: self.misses.get_or_create_owned(&label()),
            refused: REASONS.map(refused).into(),
            invalidations: self.invalidations.get_or_create_owned(&label()),
            entries: self.entries.get_or_create_owned(&label()),
            bytes: self.bytes.get_or_create_owned(&label()),
        }
    }

    /// Shows a block no more, which a reload has taken away.
    pub fn forget(&self, keys: &str) {
        let label = KeysLabel { keys: keys.to_owned() };
        for family in [&self.hits, &self.misses, &self.invalidations] {
            family.remove(&label);
        }
        for family in [&self.entries, &self.bytes] {
            family.remove(&label);
        }
        for reason in REASONS {
            self.refused.remove(&RefusedLabel { keys: keys.to_owned(), reason });
        }
    }
}
