//! What is counted of each server behind `upstream.url` by itself: one where it leads to one server, the master that
//! sentinels name, or every node of a cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::durations::Durations;
use super::register::Register;

/// So many servers have durations of their own, the others have them together.
const MOST: usize = 64;

/// As whose.
const OTHERS: &str = "(others)";

/// Labels by server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    /// Its URL, without user and password.
    endpoint: String,
}

/// Of all servers; those that are gone are not shown any more.
#[derive(Debug)]
pub struct ServerMetrics {
    up: Family<EndpointLabel, Gauge>,
    circuit_open: Family<EndpointLabel, Gauge>,
    slots: Family<EndpointLabel, Gauge>,
    lost: Family<EndpointLabel, Counter>,
    replica: Family<EndpointLabel, Gauge>,
    read: Family<EndpointLabel, Gauge>,
    lag: Family<EndpointLabel, Gauge>,
    reads: Family<EndpointLabel, Counter>,
    /// Slots of a cluster.
    pub unowned: Gauge,
    seconds: Family<EndpointLabel, Durations>,
    shown: Mutex<BTreeMap<String, ServerMetric>>,
}

/// Whether a circuit is open (1) or not (0).
pub type CircuitMetric = Gauge;

/// Of one server.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct ServerMetric {
    pub up: Gauge,
    pub circuit_open: CircuitMetric,
    pub slots: Gauge,
    pub lost: Counter,
    pub replica: Gauge,
    pub read: Gauge,
    pub lag: Gauge,
    pub reads: Counter,
    pub seconds: Durations,
}

impl ServerMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            up: r.family("upstream_endpoint_up", "1 while this server of the upstream answers"),
            circuit_open: r.family(
                "upstream_endpoint_circuit_open",
                "1 while this node of a cluster has been away for upstream.breaker_after: commands for it fail at once",
            ),
            slots: r.family("upstream_endpoint_slots", "Slots that this node of a cluster owns; 0 of a replica"),
            lost: r.family("upstream_endpoint_lost", "Lanes to this server that lost their connection"),
            replica: r.family(
                "upstream_endpoint_replica",
                "1 for a replica of the upstream whose replication is followed (upstream.read_from)",
            ),
            read: r.family("upstream_endpoint_read", "1 while reads may go to this replica: it is up to date enough"),
            lag: r.family("upstream_endpoint_lag_bytes", "Bytes that this replica is behind its primary"),
            reads: r.family("upstream_endpoint_reads", "Reads of clients that this replica was asked for"),
            unowned: r.gauge("upstream_slots_unowned", "Slots of the cluster that no node owns"),
            seconds: r.family(
                "upstream_seconds",
                "Time from the handing of requests to a lane of this server to the last of their replies, in seconds",
            ),
            shown: Mutex::default(),
        }
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, ServerMetric>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the server of this name, which are shown from now on.
    pub fn of(&self, name: &str) -> ServerMetric {
        let mut shown = self.shown();
        if let Some(known) = shown.get(name) {
            return known.clone();
        }
        let label = EndpointLabel { endpoint: name.to_owned() };
        let timed = if shown.len() < MOST { label.clone() } else { EndpointLabel { endpoint: OTHERS.to_owned() } };
        let server = ServerMetric {
            seconds: self.seconds.get_or_create_owned(&timed),
            up: self.up.get_or_create(&label).clone(),
            circuit_open: self.circuit_open.get_or_create(&label).clone(),
            slots: self.slots.get_or_create(&label).clone(),
            lost: self.lost.get_or_create(&label).clone(),
            replica: self.replica.get_or_create(&label).clone(),
            read: self.read.get_or_create(&label).clone(),
            lag: self.lag.get_or_create(&label).clone(),
            reads: self.reads.get_or_create(&label).clone(),
        };
        shown.insert(name.to_owned(), server.clone());
        server
    }

    /// Those of the other servers are not shown any more.
    pub fn keep(&self, names: &[String]) {
        self.shown().retain(|name, _| {
            let is_kept = names.contains(name);
            if !is_kept {
                let label = EndpointLabel { endpoint: name.clone() };
                self.up.remove(&label);
                self.circuit_open.remove(&label);
                self.slots.remove(&label);
                self.lost.remove(&label);
                self.replica.remove(&label);
                self.read.remove(&label);
                self.lag.remove(&label);
                self.reads.remove(&label);
                self.seconds.remove(&label);
            }
            is_kept
        });
    }

    /// Each server, by its name.
    pub fn all(&self) -> Vec<(String, ServerMetric)> {
        self.shown().iter().map(|(name, server)| (name.clone(), server.clone())).collect()
    }

    /// A line for each server, by its name, and one for slots that none owns.
    pub fn lines(&self) -> Vec<String> {
        let line = |(name, server): (&String, &ServerMetric)| {
            let state = if server.up.get() == 1 { "up" } else { "does not answer" };
            let read = if server.read.get() == 1 { "read" } else { "not read" };
            match (server.replica.get(), server.slots.get()) {
                (1, _) => format!("upstream {name}: {state}, a replica, {} bytes behind, {read}", server.lag.get()),
                (_, 0) => format!("upstream {name}: {state}"),
                (_, slots) => format!("upstream {name}: {state}, {slots} slots"),
            }
        };
        let unowned = Some(self.unowned.get()).filter(|slots| *slots > 0);
        let unowned = unowned.map(|slots| format!("upstream: {slots} slots have no owner (CLUSTERDOWN)"));
        self.shown().iter().map(line).chain(unowned).collect()
    }
}
