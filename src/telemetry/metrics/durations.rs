//! Durations, counted in buckets and to the microsecond.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The upper bounds of the buckets, in microseconds: from 10 us to 5 s. A last one takes what is longer.
const BOUNDS: [u64; 18] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// So many threads count without disturbing each other.
const SHARDS: usize = 4;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Relaxed) % SHARDS;
}

/// What some threads have counted, on cache lines that the others do not write.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// A histogram of durations. Cloning it gives another handle on the same one.
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<[Shard; SHARDS]>);

impl Durations {
    /// Counts `n` durations of so many microseconds each.
    pub fn observe(&self, micros: u64, n: u64) {
        let shard = &self.0[SHARD.with(|shard| *shard)];
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        shard.buckets[bucket].fetch_add(n, Relaxed);
        shard.micros.fetch_add(micros.saturating_mul(n), Relaxed);
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.0.iter().map(|shard| of(shard).load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.enumerate().map(|(at, bound)| (bound, self.sum(|shard| &shard.buckets[at]))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(self.sum(|shard| &shard.micros)), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Microseconds in the unit of Prometheus.
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Metrics;

    #[test]
    fn durations_are_counted_to_the_microsecond() {
        let metrics = Metrics::default();
        for micros in [7, 10, 11, 300, 9_000_000] {
            metrics.cache.written(super::super::Outcome::Ok, Duration::from_micros(micros));
        }
        let text = metrics.render(super::super::Format::Prometheus);
        let lines = [
            "_bucket{le=\"0.00001\"} 2",
            "_bucket{le=\"0.000025\"} 3",
            "_bucket{le=\"0.00025\"} 3",
            "_bucket{le=\"0.0005\"} 4",
            "_bucket{le=\"5.0\"} 4",
            "_bucket{le=\"+Inf\"} 5",
            "_count 5",
            "_sum 9.000328",
        ];
        for line in lines.map(|rest| format!("hearthside_write_seconds{rest}\n")) {
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
