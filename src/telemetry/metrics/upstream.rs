//! What `upstream` counts: the server, and for each kind of connection to it what is open and what was lost.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use super::servers::ServerMetrics;
use crate::telemetry::forbidden_commands::{ForbiddenCommands, ForbiddenLabel};
use crate::telemetry::{Light, LogThrottle};

/// Of one upstream server.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct UpstreamMetrics {
    pub up: Gauge,
    pub circuit_open: Gauge,
    pub unverified: Gauge,
    pub forbidden: ForbiddenCommands,
    pub sentinels: SentinelMetrics,
    pub servers: ServerMetrics,
    pub lanes: LaneMetrics,
    pub pinned: Arc<PinnedMetrics>,
    pub hub: HubMetrics,
    pub light: Light,
}

impl UpstreamMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            up: r.gauge("upstream_up", "1 while the upstream answers"),
            circuit_open: r.gauge(
                "upstream_circuit_open",
                "1 while the upstream has been away for upstream.breaker_after, and commands for it fail at once",
            ),
            unverified: r.gauge(
                "upstream_tls_unverified",
                "1 while nothing is verified of a rediss:// upstream (upstream.tls_verify = none)",
            ),
            forbidden: ForbiddenCommands::new(r.family_of(
                "upstream_unasked",
                "1 while the upstream does not let the sidecar's own user run this command, by command",
                ["CLIENT SETNAME", "INFO", "PING"].map(|command| ForbiddenLabel { command }),
            )),
            sentinels: SentinelMetrics::register(r),
            servers: ServerMetrics::register(r),
            lanes: LaneMetrics::register(r),
            pinned: Arc::new(PinnedMetrics::register(r)),
            hub: HubMetrics::register(r),
            light: Light::default(),
        }
    }
}

/// Of the sentinels that watch over the upstream (`upstream/endpoint/sentinel`).
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct SentinelMetrics {
    pub known: Gauge,
    pub answering: Gauge,
    pub masters: Counter,
}

impl SentinelMetrics {
    fn register(r: &mut Register) -> Self {
        Self {
            known: r.gauge("sentinels", "Sentinels that are known, 0 if upstream.url names none"),
            answering: r.gauge("sentinels_answering", "Sentinels that answer and know the master"),
            masters: r.counter("sentinel_masters", "Masters that the sentinels have named one after the other"),
        }
    }
}

/// Of the connections that many clients share (`upstream/pipeline`).
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct LaneMetrics {
    pub connected: Gauge,
    pub held: Gauge,
    pub connects: Counter,
    pub reconnects: Counter,
    pub failures: Counter,
}

impl LaneMetrics {
    fn register(r: &mut Register) -> Self {
        Self {
            connected: r.gauge("lanes_connected", "Lanes that are connected to the upstream"),
            held: r.gauge(
                "lanes_held",
                "Lanes on which nothing is under way because commands are held back (HEARTHSIDE PAUSE)",
            ),
            connects: r.counter("lane_connects", "Connections opened by lanes, reconnections included"),
            reconnects: r.counter("lane_reconnects", "Connections opened by lanes that had lost one"),
            failures: r.counter("lane_failures", "Lane connections that failed or could not be opened"),
        }
    }
}

/// Of the connections that serve one client each (`upstream/pinned`).
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct PinnedMetrics {
    pub open: Gauge,
    pub idle: Gauge,
    pub waiting: Gauge,
    pub refused: Counter,
    pub unanswered: LogThrottle,
}

impl PinnedMetrics {
    fn register(r: &mut Register) -> Self {
        Self {
            open: r.gauge("pinned", "Pinned connections that are open, idle ones included"),
            idle: r.gauge("pinned_idle", "Pinned connections that are open and lent to nobody"),
            waiting: r.gauge("pinned_waiting", "Clients that wait for a pinned connection to come free"),
            refused: r.counter("pinned_refused", "Commands refused because no pinned connection came free in time"),
            unanswered: LogThrottle::default(),
        }
    }
}

/// Of the subscriber connection that all clients share (`upstream/hub`).
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct HubMetrics {
    pub up: Gauge,
    pub topics: Gauge,
    pub messages: Counter,
    pub connects: Counter,
}

impl HubMetrics {
    fn register(r: &mut Register) -> Self {
        Self {
            up: r.gauge("pubsub_up", "1 while the shared subscriber connection is there (pubsub.mode = shared)"),
            topics: r.gauge(
                "pubsub_topics",
                "Channels and patterns of the shared subscriber connection, those included whose confirmation is still \
                 to come",
            ),
            messages: r.counter("pubsub_messages", "Messages that came over connections which several clients share"),
            connects: r.counter("pubsub_connects", "Shared subscriber connections opened, reconnections included"),
        }
    }
}
