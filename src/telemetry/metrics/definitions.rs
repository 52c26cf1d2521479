//! What `definitions` counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{Outcome, OutcomeLabel};
use super::register::Register;

/// Of the definitions in memory.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct DefinitionMetrics {
    pub definitions: Gauge,
    reloads: Family<OutcomeLabel, Counter>,
    pub changed: Counter,
}

impl DefinitionMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            definitions: r.gauge("definitions", "Definitions in memory"),
            reloads: r.family_of("reloads", "Reloads of one mapping's definitions, by outcome", OutcomeLabel::ENDS),
            changed: r.counter(
                "definitions_changed_in_place",
                "Definitions whose new record came with the change itself, so that their mapping is not loaded again",
            ),
        }
    }

    /// Counts a reload of one mapping.
    pub fn reloaded(&self, outcome: Outcome) {
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
