//! What is counted of traces.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::ReasonLabel;
use super::register::Register;

/// Of traces.
#[derive(Debug)]
pub struct TraceMetrics {
    /// Spans that the collector has taken.
    pub exported: Counter,
    dropped: Family<ReasonLabel, Counter>,
}

impl TraceMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            exported: r.counter("spans_exported", "Spans that the collector has taken"),
            dropped: r.family_of(
                "spans_dropped",
                "Spans that were lost, by reason (queue: too many waited; collector: it did not take them)",
                ReasonLabel::all(["queue", "collector"]),
            ),
        }
    }

    /// The counter of spans that were lost for this reason.
    pub fn dropped(&self, reason: &'static str) -> Counter {
        self.dropped.get_or_create_owned(&ReasonLabel { reason })
    }
}
