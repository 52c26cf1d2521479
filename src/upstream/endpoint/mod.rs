//! One upstream server: its location, whether it can be reached, how many connections it may have, and how one is
//! opened. Knows nothing of clients or requests, and nothing of `pipeline`, `pinned` and `hub`, which use it. Which
//! server it is `upstream.url` says, or the sentinels that it names.

mod asking;
pub(super) mod circuit;
mod commands;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod greeting;
pub(super) mod group;
pub(super) mod health;
pub(super) mod location;
pub(super) mod logins;
pub(super) mod permits;
pub(super) mod private_server;
pub(super) mod sentinel;
pub(super) mod stream;
mod target;
mod tls;
pub(super) mod topology;
mod url;
mod version;

use std::sync::Arc;
use std::time::Duration;

use circuit::Circuit;
use commands::Commands;
use error::ConnectError;
use location::Location;
use logins::Logins;
use permits::Permits;
use topology::Topology;
pub use version::Version;

use crate::config;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{PanicMetrics, UpstreamMetrics};

/// One upstream server, for all lanes and pinned connections to it.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) location: Location,
    pub(super) circuit: Circuit,
    pub(super) logins: Logins,
    /// `[upstream]`.
    pub settings: config::Upstream,
    pub(super) permits: Permits,
    /// As the server tells it.
    pub version: Version,
    /// What is known of its commands.
    pub commands: Commands,
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
            location: Location::new(topology),
            circuit: Circuit::new(settings.breaker_after, metrics.clone()),
            logins: Logins::default(),
            settings: settings.clone(),
            permits: Permits::new(settings, metrics.pinned.clone()),
            version: Version::default(),
            commands: Commands::default(),
            metrics,
            panics,
        }
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
            Topology::Sentinels(_) => {
                tracing::info!(upstream = %topology.name(), "the upstream moves when a sentinel has named the master");
            }
        }
        self.metrics.unverified.set(i64::from(topology.is_unverified()));
        self.location.change(topology);
        self.circuit.begin_again();
    }

    /// Why what waits is not sent.
    pub(super) fn unreachable(&self) -> ConnectError {
        self.circuit.why().unwrap_or_else(|| {
            let known = self.location.target();
            known.map_or_else(|why| why, |target| ConnectError::Unreachable(target.name(), connect::LATE.into()))
        })
    }

    /// Holds commands back, for at most `most`, from now on; the future ends when none is under way on a lane any more.
    pub fn pause(self: Arc<Self>, most: Duration) -> impl Future<Output = ()> {
        tracing::warn!(milliseconds = most.as_millis(), "commands for the upstream are held back (HEARTHSIDE PAUSE)");
        self.location.pause(most);
        async move {
            while self.metrics.lanes.held.get() < self.metrics.lanes.connected.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Lets commands go on.
    pub fn resume(&self) {
        if self.location.resume() {
            tracing::info!("commands go to the upstream again (HEARTHSIDE RESUME)");
        }
    }
}
