//! How much of the memory for all clients one reply takes while it is put together from many parts.

use std::sync::Arc;

use super::Services;
use crate::session::Session;
use crate::telemetry::metrics::ClientMetrics;
use crate::upstream::Kept;

/// The room of one reply.
pub(super) struct Room {
    kept: Kept,
    metrics: Arc<ClientMetrics>,
    bytes: usize,
    most: usize,
}

impl Room {
    pub(super) fn of(services: &Services, session: &Session) -> Self {
        let (kept, metrics) = (Kept::new(session.account.clone()), services.metrics.clients.clone());
        Self { kept, metrics, bytes: 0, most: services.policy.limits.buffers.0 }
    }

    /// So many bytes more of the reply, and `beside` them; false when the reply is more than all clients may hold.
    pub(super) fn takes(&mut self, bytes: usize, beside: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > self.most {
            self.metrics.limited("buffers");
            return false;
        }
        self.kept.more(bytes + beside);
        true
    }
}
