//! What `cache/write_behind` counts of deferred writes, from their acknowledgement until the store has them.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{MappingLabel, Outcome, OutcomeLabel};
use super::register::Register;
use crate::telemetry::Audit;

/// Of one cache's deferred writes. The bytes of the journal are in [`super::JournalMetrics`].
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct WriteBehindMetrics {
    pub deferred: Counter,
    pub deferred_keys: Gauge,
    flushes: Family<OutcomeLabel, Counter>,
    pub flushed: Counter,
    deferred_without_row: Family<MappingLabel, Counter>,
    pub put_aside: Counter,
    pub journal_collisions: Counter,
    pub renewals_dropped: Counter,
    pub audit: Arc<Audit>,
}

impl WriteBehindMetrics {
    pub(super) fn register(r: &mut Register, audit: Arc<Audit>) -> Self {
        Self {
            audit,
            deferred: r.counter("deferred", "Writes acknowledged from the journal"),
            deferred_keys: r.gauge("deferred_keys", "Keys with deferred writes that wait for the store"),
            flushes: r.family_of("flushes", "Statements that save deferred writes, by outcome", OutcomeLabel::ENDS),
            flushed: r.counter("flushed", "Keys whose deferred writes were saved"),
            deferred_without_row: r.family(
                "deferred_without_row",
                "Keys whose deferred writes were dropped because their row is not there, by mapping",
            ),
            put_aside: r
                .counter("put_aside", "Keys whose deferred writes the store refused; `hearthside journal` shows them"),
            journal_collisions: r.counter(
                "journal_collisions",
                "Batches of deferred writes that somebody else had noted in the store; they were sent again",
            ),
            renewals_dropped: r.counter(
                "renewals_dropped",
                "Renewals of a TTL by a read that were not journaled because too many waited; the next read renews",
            ),
        }
    }

    /// Counts a statement that was to save deferred writes.
    pub fn flush_ended(&self, outcome: Outcome) {
        self.flushes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Shows what is counted of a mapping before anything was.
    pub fn show(&self, mapping: &str) {
        drop(self.deferred_without_row.get_or_create(&MappingLabel { mapping: mapping.to_owned() }));
    }

    /// Shows a mapping no more, which a reload has taken away.
    pub fn forget(&self, mapping: &str) {
        self.deferred_without_row.remove(&MappingLabel { mapping: mapping.to_owned() });
    }

    /// Counts `keys` whose row is not there.
    pub fn without_row(&self, mapping: &str, keys: u64) {
        self.deferred_without_row.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).inc_by(keys);
    }
}
