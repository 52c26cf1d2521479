//! What is counted of the audit log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::ReasonLabel;
use super::register::Register;

/// Of the audit log.
#[derive(Debug)]
pub struct AuditMetrics {
    /// Lines that were written.
    pub written: Counter,
    lost: Family<ReasonLabel, Counter>,
}

impl AuditMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            written: r.counter("audit_lines", "Lines of the audit log that were written"),
            lost: r.family_of(
                "audit_lost",
                "Lines of the audit log that were lost, by reason (queue: too many waited; file: it cannot be \
                 written; refusals: more than 20 a second of requests refused because of who asks). Alarm on it",
                ReasonLabel::all(["queue", "file", "refusals"]),
            ),
        }
    }

    /// The counter of lines that were lost for this reason.
    pub fn lost(&self, reason: &'static str) -> Counter {
        self.lost.get_or_create_owned(&ReasonLabel { reason })
    }
}
