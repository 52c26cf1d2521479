//! What `admin` counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::ReasonLabel;
use super::register::Register;

/// Of the admin port.
#[derive(Debug)]
pub struct AdminMetrics {
    refused: Family<ReasonLabel, Counter>,
}

impl AdminMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        let refused = r.family_of(
            "admin_refused",
            "Requests that the admin port refused, by reason (origin, host, token, elsewhere, connections)",
            ReasonLabel::all(["origin", "host", "token", "elsewhere", "connections"]),
        );
        Self { refused }
    }

    /// Counts a request that was refused: `origin`, `host` or `token`; or a connection that was closed for another.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}
