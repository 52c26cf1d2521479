//! What `journal` counts: its bytes, and what it does not take.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;

/// Of the journal's file.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct JournalMetrics {
    pub bytes: Gauge,
    pub aside_bytes: Gauge,
    pub max_bytes: Gauge,
    pub missing: Gauge,
    pub refused: Counter,
}

impl JournalMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            bytes: r.gauge("journal_bytes", "Bytes of deferred writes that wait for the store"),
            aside_bytes: r.gauge(
                "journal_aside_bytes",
                "Bytes of deferred writes that were put aside and are still in the journal",
            ),
            max_bytes: r
                .gauge("journal_max_bytes", "Bytes of both that there may be (journal.max_bytes); 0 without a journal"),
            missing: r.gauge(
                "journal_missing",
                "Deferred writes, at most, that were acknowledged and are missing in the journal since it was damaged",
            ),
            refused: r.counter(
                "journal_refused",
                "Deferred writes that were refused because the journal is full, or its file cannot be written",
            ),
        }
    }
}
