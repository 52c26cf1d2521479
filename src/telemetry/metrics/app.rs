//! What `app` counts: the configuration's reloads, and whether the store answers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{Outcome, OutcomeLabel};
use super::register::Register;
use crate::telemetry::Light;

/// Of the process as a whole.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct AppMetrics {
    pub store_up: Gauge,
    pub store_writable: Gauge,
    pub replica_up: Gauge,
    pub replica_loads: Counter,
    pub replica_refusals: Counter,
    config_reloads: Family<OutcomeLabel, Counter>,
    pub store: Light,
    pub feed: Light,
}

impl AppMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            store_up: r.gauge("store_up", "1 while the store answers"),
            store_writable: r.gauge("store_writable", "1 while the store answers and takes writes"),
            replica_up: r.gauge("replica_up", "1 while a hot standby of store.read_url answers"),
            replica_loads: r.counter("replica_loads", "Keys that were loaded from a hot standby (store.read_url)"),
            replica_refusals: r.counter(
                "replica_refusals",
                "Keys that the primary was asked for because it was not certain that a hot standby is up to date",
            ),
            config_reloads: r.family_of(
                "config_reloads",
                "Reloads of the configuration (SIGHUP), by outcome",
                OutcomeLabel::ENDS,
            ),
            store: Light::default(),
            feed: Light::default(),
        }
    }

    /// Counts a reload of the configuration.
    pub fn config_reloaded(&self, outcome: Outcome) {
        self.config_reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
