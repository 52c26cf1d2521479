//! What `tracking` counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;

/// Of the owned keys that clients keep.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct TrackingMetrics {
    pub clients: Gauge,
    pub keys: Gauge,
    pub bytes: Gauge,
    pub invalidations: Counter,
    pub evicted: Counter,
}

impl TrackingMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            clients: r.gauge("tracking_clients", "Clients with CLIENT TRACKING"),
            keys: r.gauge("tracking_keys", "Owned keys that clients with CLIENT TRACKING may keep"),
            bytes: r.gauge("tracking_bytes", "Memory of who keeps which owned key, in bytes"),
            invalidations: r.counter(
                "tracking_invalidations",
                "Invalidations of owned keys that clients with CLIENT TRACKING were told, one for each client",
            ),
            evicted: r.counter(
                "tracking_evicted",
                "Owned keys that clients were told to forget because tracking.max_keys or tracking.max_bytes was \
                 reached",
            ),
        }
    }
}
