//! What `key_events` counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;

/// Of the events of owned keys.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct KeyEventMetrics {
    pub subscriptions: Gauge,
    pub events: Counter,
    pub expiries: Gauge,
}

impl KeyEventMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            subscriptions: r.gauge(
                "key_event_subscriptions",
                "Subscriptions to channels and patterns that events of owned keys may belong to (notify.keyspace)",
            ),
            expiries: r.gauge(
                "key_event_expiries",
                "Keys of which it is known when they end, so that subscribers are told then (notify.keyspace)",
            ),
            events: r.counter(
                "key_events",
                "Messages about events of owned keys that subscribers were given, one for each subscription",
            ),
        }
    }
}
