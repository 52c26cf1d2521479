//! One upstream server: its location, whether it can be reached, how many connections it may have, and how one is
//! opened. Knows nothing of clients or requests, and nothing of `pipeline`, `pinned` and `hub`, which use it. Which
//! server it is `upstream.url` says, or the sentinels that it names.

mod asking;
pub(super) mod circuit;
pub(super) mod cluster;
mod commands;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod greeting;
pub(super) mod group;
pub(super) mod health;
pub(super) mod location;
pub(super) mod logins;
pub(super) mod near;
pub(super) mod not_told;
mod pause;
pub(super) mod permits;
pub(super) mod private_server;
pub(super) mod replicas;
mod running;
pub(super) mod sentinel;
pub(super) mod stream;
pub(super) mod target;
mod tls;
pub(super) mod topology;
mod url;
mod version;
pub(super) mod waits;
pub(super) mod walk;

use std::sync::Arc;

use circuit::Circuit;
use cluster::Cluster;
use commands::Commands;
use error::ConnectError;
use location::Location;
use logins::Logins;
pub use pause::LONGEST_PAUSE;
use permits::{Openings, Permits};
use replicas::Replicas;
use running::Running;
pub use running::Transaction;
use target::{Host, Target};
use topology::Topology;
pub use version::Version;

use crate::config;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{PanicMetrics, ServerMetric, UpstreamMetrics};

/// One upstream server, for all lanes and pinned connections to it.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) location: Location,
    pub(super) circuit: Circuit,
    pub(super) logins: Arc<Logins>,
    /// `[upstream]`.
    pub settings: config::Upstream,
    pub(super) permits: Arc<Permits>,
    /// Of this server alone.
    pub(super) openings: Openings,
    /// As the server tells it.
    pub version: Version,
    /// What is known of its commands.
    pub commands: Arc<Commands>,
    /// The cluster behind it, where `upstream.url` leads to one.
    pub(super) cluster: Cluster,
    /// Its replicas, where reads may go to some.
    pub(super) replicas: Replicas,
    /// Transactions of the sidecar's own.
    running: Running,
    /// Where it is, of a node of a cluster.
    node: Option<Host>,
    /// What is shown of it alone, of a node of a cluster.
    pub(super) server: ServerMetric,
    pub(super) metrics: Arc<UpstreamMetrics>,
    pub(super) panics: Arc<PanicMetrics>,
}

impl Endpoint {
    /// The server that `topology` leads to, or the reason why there is none. No connection is opened before one is
    /// needed.
    #[must_use]
    pub fn new(topology: Result<Topology, String>, settings: &config::Upstream, metrics: &Metrics) -> Self {
        let (panics, metrics) = (metrics.panics.clone(), metrics.upstream.clone());
        metrics.unverified.set(i64::from(topology.as_ref().is_ok_and(|topology| topology.is_unverified())));
        Self {
            cluster: Cluster::new(matches!(topology, Ok(Topology::Cluster(_)))),
            replicas: Replicas::new(settings, topology.as_ref().ok()),
            running: Running::default(),
            location: Location::new(topology),
            circuit: Circuit::new(settings.breaker_after, metrics.circuit_open.clone()),
            logins: Arc::default(),
            settings: settings.clone(),
            permits: Arc::new(Permits::new(settings, metrics.pinned.clone())),
            openings: Openings::new(settings),
            version: Version::default(),
            commands: Arc::default(),
            node: None,
            server: ServerMetric::default(),
            metrics,
            panics,
        }
    }

    /// What is shown of the server to which connections of this generation lead.
    pub(super) fn server_at(&self, generation: u64) -> ServerMetric {
        let its = || self.location.target_at(generation).map(|target| self.metrics.servers.of(&target.name()));
        match self.node {
            Some(_) => self.server.clone(),
            None => its().unwrap_or_default(),
        }
    }

    /// One server of several that this upstream is.
    fn node(&self, target: Target) -> Self {
        let (node, server) = (target.host(), self.metrics.servers.of(&target.name()));
        let location = Location::new(Ok(Topology::Single(target)));
        location.pause(self.location.paused());
        Self {
            location,
            circuit: Circuit::new(self.settings.breaker_after, server.circuit_open.clone()),
            logins: self.logins.clone(),
            // A cluster has three masters at least: all together have the lanes that one server has.
            settings: config::Upstream { lanes: self.settings.lanes.div_ceil(3), ..self.settings.clone() },
            permits: self.permits.clone(),
            openings: Openings::new(&self.settings),
            version: Version::default(),
            commands: self.commands.clone(),
            cluster: Cluster::default(),
            replicas: Replicas::default(),
            running: Running::default(),
            node,
            server,
            metrics: self.metrics.clone(),
            panics: self.panics.clone(),
        }
    }

    /// A server of it may say that another one is the primary (`-REDIRECT`). Nodes of a cluster say MOVED, and what
    /// replicas say is their own business.
    pub(super) fn may_be_redirected(&self) -> bool {
        self.node.is_none() && !self.cluster.is_there()
    }

    /// The server at the location of this number has become a replica, and says that its primary is at `host`.
    pub(super) fn is_redirected(&self, generation: u64, host: &Host) {
        if self.location.redirect(generation, host) {
            self.circuit.begin_again();
            tracing::info!(primary = %host, "the upstream has become a replica; commands go to the primary it names");
        }
    }

    /// Where the server is, if it is known and no socket.
    pub(super) fn host(&self) -> Host {
        let its = || self.location.target().ok().and_then(|target| target.host());
        self.node.clone().or_else(its).unwrap_or_default()
    }

    /// Where it is, for traces: `host:port`, or the path of its socket.
    pub(super) fn place(&self) -> String {
        match self.host() {
            host if host.name.is_empty() => self.shown().trim_start_matches("unix://").to_owned(),
            host => host.to_string(),
        }
    }

    /// Where it is, for logs.
    pub(super) fn shown(&self) -> String {
        let its = || self.location.target().map_or_else(|why| why.to_string(), |target| target.name());
        self.node.as_ref().map_or_else(its, Host::to_string)
    }

    /// Its name among the nodes of a cluster, if it is one.
    pub(super) fn node_name(&self) -> Option<Arc<str>> {
        Some(self.node.as_ref()?.to_string().into())
    }

    /// True for a node that takes no commands any more.
    pub(super) fn is_retired(&self) -> bool {
        matches!(self.location.target(), Err(ConnectError::Retired))
    }

    /// The node takes no commands any more, and answers none: what it was not sent goes elsewhere.
    fn retire(&self) {
        self.location.retire(true);
    }

    /// The node takes no commands any more; what is under way ends there.
    fn leave(&self) {
        self.location.retire(false);
    }

    /// The database that clients begin in.
    #[must_use]
    pub fn first_database(&self) -> i64 {
        self.location.topology().0.map_or(0, |topology| topology.db())
    }

    /// The sidecar is shutting down: what waits for a connection waits no longer than a moment.
    pub fn close(&self) {
        self.permits.close();
    }

    /// From now on `topology` leads to the upstream: what is under way ends where it began, everything else goes
    /// there, or stays where it is until sentinels have named a master.
    pub fn move_to(&self, topology: Topology) {
        match &topology {
            Topology::Single(_) => {
                tracing::info!(upstream = %topology.name(), "the upstream has moved; connections are opened again");
            }
            Topology::Hosts(_) => {
                tracing::info!(upstream = %topology.name(), "the upstream moves when a server says that it is primary");
            }
            Topology::Sentinels(_) => {
                tracing::info!(upstream = %topology.name(), "the upstream moves when a sentinel has named the master");
            }
            Topology::Cluster(_) => {
                let upstream = topology.name();
                tracing::info!(upstream, "the upstream moves when a node of the cluster has answered");
            }
        }
        self.metrics.unverified.set(i64::from(topology.is_unverified()));
        if self.replicas.are_of(&self.settings, Some(&topology)) {
            self.cluster.is_another();
        }
        self.location.change(topology);
        self.cluster.is_wanted_at(&self.location);
        self.circuit.begin_again();
    }

    /// The server of the topology of this number that takes commands is there from now on; false if it was there.
    fn is_led_to(&self, number: u64, target: Target) -> bool {
        let is_another = self.location.appoint(number, target);
        if is_another {
            self.cluster.is_wanted_at(&self.location);
            self.circuit.begin_again();
        }
        is_another
    }

    /// Why what waits is not sent.
    pub(super) fn unreachable(&self) -> ConnectError {
        self.circuit.why().unwrap_or_else(|| {
            let known = self.location.target();
            known.map_or_else(|why| why, |target| ConnectError::Unreachable(target.name(), connect::LATE.into()))
        })
    }

    /// Requests may go to several servers.
    pub(super) fn is_several(&self) -> bool {
        self.cluster.is_there() || self.replicas.are_read()
    }

    /// It stands for a whole cluster, and connections to it lead to one of its nodes.
    pub(super) fn is_several_as_one(&self) -> bool {
        self.node.is_none() && self.cluster.is_there()
    }

    /// Every server: this one, the nodes of the cluster, and the replicas that are read.
    fn each(&self, mut visit: impl FnMut(&Self)) {
        visit(self);
        self.cluster.map().iter().flat_map(|map| &map.nodes).for_each(|node| visit(&node.endpoint));
        self.replicas.readers().all().for_each(|reader| visit(&reader.endpoint));
    }
}
