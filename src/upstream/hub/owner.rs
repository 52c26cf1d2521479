//! The one client that a hub is for, behind a cluster: its subscriptions are at several nodes, over connections of its
//! own, so that every count at the upstream is Redis's own.

use std::sync::Arc;

use crate::telemetry::metrics::ClientMetrics;
use crate::upstream::endpoint::group::Group;

/// Who is subscribed.
#[derive(Debug)]
pub struct Owner {
    /// Its id.
    pub client: u64,
    /// Its address.
    pub address: String,
    /// As whom its connections speak.
    pub group: Group,
    /// It is closed where messages may have been missed (`pubsub.on_loss = "close"`).
    pub is_closed_on_loss: bool,
    /// Where it is counted what becomes of its subscriptions.
    pub metrics: Arc<ClientMetrics>,
}

impl Owner {
    /// Messages may be missed, for this reason.
    pub(super) fn log_loss(&self, error: &str) {
        let due =
            if self.is_closed_on_loss { &self.metrics.logged.own_lost } else { &self.metrics.logged.subscribed_again };
        let Some(unlogged) = due.due() else { return };
        let (client, address) = (self.client, &self.address);
        if self.is_closed_on_loss {
            tracing::warn!(
                client,
                address,
                error,
                unlogged,
                "a client's own upstream connection was lost, and its subscriptions or tracking with it; \
                 the client is closed"
            );
        } else {
            tracing::warn!(
                client,
                address,
                error,
                unlogged,
                "a subscriber's upstream connection was lost; it is subscribed again, and may have missed messages"
            );
        }
    }

    /// The upstream does not let it subscribe again.
    pub(super) fn log_refused(&self, error: &str) {
        if let Some(unlogged) = self.metrics.logged.not_subscribed.due() {
            let (client, address) = (self.client, &self.address);
            tracing::warn!(client, address, error, unlogged, "the upstream refuses a subscriber; it is closed");
        }
    }
}
