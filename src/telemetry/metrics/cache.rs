//! What `cache` counts of records in memory: loads, hits that are verified, the change feed, writes through the cache.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::consistency::ConsistencyMetrics;
use super::durations::Durations;
use super::labels::{MappingLabel, Outcome, OutcomeLabel};
use super::limits::LimitMetrics;
use super::register::Register;
use crate::telemetry::slow::SlowLog;
use crate::telemetry::{TopKeys, Traces};

/// Of one cache. Deferred writes have [`super::WriteBehindMetrics`].
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct CacheMetrics {
    pub entries: Gauge,
    pub bytes: Gauge,
    load_seconds: Durations,
    pub coalesced_waiters: Counter,
    pub stale_served: Counter,
    writes: Family<OutcomeLabel, Counter>,
    write_seconds: Durations,
    pub own_writes: Gauge,
    pub change_feed_up: Gauge,
    pub consistency: ConsistencyMetrics,
    overloads: Family<MappingLabel, Counter>,
    stale_reads: Family<MappingLabel, Counter>,
    pub swept: Counter,
    pub refreshed: Counter,
    pub replaced: Counter,
    unswept_rows: Family<MappingLabel, Gauge>,
    pub warmed: Counter,
    pub top: TopKeys,
    pub slow: Arc<SlowLog>,
    pub limits: LimitMetrics,
    pub traces: Arc<Traces>,
}

impl CacheMetrics {
    pub(super) fn register(r: &mut Register, traces: Arc<Traces>) -> Self {
        Self {
            traces,
            entries: r.gauge("cache_entries", "Cached keys in memory, absent ones included"),
            bytes: r.gauge("cache_bytes", "Memory of cached records, in bytes"),
            load_seconds: r.seconds("load_seconds", "Time from a load's start to its record, in seconds"),
            coalesced_waiters: r.counter("coalesced_waiters", "Reads that joined a load another read had begun"),
            stale_served: r.counter(
                "stale_served",
                "Reads answered from a record whose TTL was over, as stale_while_revalidate or stale_if_error allow",
            ),
            writes: r.family_of("writes", "Writes of one cached key to the store, by outcome", OutcomeLabel::ENDS),
            write_seconds: r.seconds("write_seconds", "Time from a write's start to its record, in seconds"),
            own_writes: r.gauge("own_writes", "Writes whose notices may still come back over the change feed"),
            change_feed_up: r.gauge("change_feed_up", "1 while changes of the store arrive"),
            consistency: ConsistencyMetrics::register(r),
            overloads: r.family(
                "overloads",
                "Loads, writes, transactions and flushes that the store was there for and did not come to in time, by \
                 mapping",
            ),
            stale_reads: r.family(
                "stale_reads",
                "Records that were served although the store held something else and no change was told. Alarm on it",
            ),
            swept: r.counter("swept", "Rows removed because their keys had ended"),
            refreshed: r.counter(
                "refreshed",
                "Keys that were loaded again because they had been read and have changed, before anybody asked",
            ),
            replaced: r.counter(
                "refreshed_in_place",
                "Keys in memory whose new record came with the change itself, so that nobody loads them",
            ),
            unswept_rows: r.family(
                "unswept_rows",
                "Rows that cannot be removed although their keys have ended, by mapping: they are tried again",
            ),
            warmed: r.counter("warmed", "Keys that a warm start loaded, absent ones included"),
            top: TopKeys::default(),
            slow: Arc::default(),
            limits: LimitMetrics::register(r),
        }
    }

    /// Counts a load that took so long. How it ended, its mapping counts.
    pub fn loaded(&self, time: Duration) {
        self.load_seconds.observe(time.as_micros() as u64, 1);
    }

    /// Counts a write that took so long.
    pub fn written(&self, outcome: Outcome, time: Duration) {
        self.writes.get_or_create(&OutcomeLabel { outcome }).inc();
        self.write_seconds.observe(time.as_micros() as u64, 1);
    }

    /// Counts a statement that the store did not come to.
    pub fn overloaded(&self, mapping: &str) {
        self.overloads.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).inc();
    }

    /// Shows how many rows of a mapping cannot be removed.
    pub fn cannot_be_swept(&self, mapping: &str, rows: usize) {
        let gauge = self.unswept_rows.get_or_create(&MappingLabel { mapping: mapping.to_owned() });
        gauge.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Shows what is counted of a mapping before anything was.
    pub fn show(&self, mapping: &str) {
        for family in [&self.stale_reads, &self.overloads] {
            drop(family.get_or_create(&MappingLabel { mapping: mapping.to_owned() }));
        }
        self.cannot_be_swept(mapping, 0);
    }

    /// Shows a mapping no more, which a reload has taken away.
    pub fn forget(&self, mapping: &str) {
        let label = MappingLabel { mapping: mapping.to_owned() };
        self.stale_reads.remove(&label);
        self.overloads.remove(&label);
        self.unswept_rows.remove(&label);
    }

    /// Counts a record that was served although it was stale.
    pub fn stale_read(&self, mapping: &str) {
        self.stale_reads.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).inc();
    }
}
