//! What `store` counts of its turns: how many statements may be under way at once, and who waits.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::durations::Durations;
use super::register::Register;

/// Labels by pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    /// `loads` (and single writes, in Postgres) or `batches`.
    pool: &'static str,
}

/// Of both pools.
#[derive(Debug)]
pub struct StoreMetrics {
    used: Family<PoolLabel, Gauge>,
    most: Family<PoolLabel, Gauge>,
    waiting: Family<PoolLabel, Gauge>,
    wait_seconds: Family<PoolLabel, Durations>,
}

/// Of one pool.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct TurnsMetric {
    pub used: Gauge,
    pub most: Gauge,
    pub waiting: Gauge,
    pub wait_seconds: Durations,
}

impl StoreMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        let pools = ["loads", "batches"].map(|pool| PoolLabel { pool });
        Self {
            used: r.family_of("store_pool_used", "Statements at the store that are under way, by pool", pools.clone()),
            most: r.family_of(
                "store_pool_max",
                "Statements that may be under way at once (store.max_connections), by pool",
                pools.clone(),
            ),
            waiting: r.family_of("store_pool_waiting", "Statements that wait for their turn, by pool", pools.clone()),
            wait_seconds: r.family_of(
                "store_pool_wait_seconds",
                "Time that a statement waited for its turn, in seconds, by pool",
                pools,
            ),
        }
    }

    /// Those of a pool: `loads` or `batches`.
    #[must_use]
    pub fn pool(&self, pool: &'static str) -> TurnsMetric {
        let label = PoolLabel { pool };
        TurnsMetric {
            used: self.used.get_or_create_owned(&label),
            most: self.most.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            wait_seconds: self.wait_seconds.get_or_create_owned(&label),
        }
    }
}
