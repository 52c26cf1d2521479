//! One upstream server: its location, whether it can be reached, how many connections it may have, and how one is
//! opened. Knows nothing of clients or requests, and nothing of `pipeline`, `pinned` and `hub`, which use it. Another
//! topology (Sentinel, a cluster) is added here.

pub(super) mod circuit;
mod commands;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod group;
pub(super) mod health;
pub(super) mod location;
pub(super) mod logins;
pub(super) mod permits;
pub(super) mod private_server;
pub(super) mod stream;
pub(super) mod target;
mod version;

use std::sync::Arc;
use std::time::Duration;

use circuit::Circuit;
use commands::Commands;
use error::ConnectError;
use location::Location;
use logins::Logins;
use permits::Permits;
use target::Target;
pub use version::Version;

use crate::config;
use crate::telemetry::metrics::UpstreamMetrics;

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
}

impl Endpoint {
    /// The server at `target`, or the reason why there is none. No connection is opened before one is needed.
    #[must_use]
    pub fn new(target: Result<Target, String>, settings: &config::Upstream, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            location: Location::new(target),
            circuit: Circuit::new(settings.breaker_after, metrics.clone()),
            logins: Logins::default(),
            settings: settings.clone(),
            permits: Permits::new(settings, metrics.pinned.clone()),
            version: Version::default(),
            commands: Commands::default(),
            metrics,
        }
    }

    /// The database that clients begin in.
    #[must_use]
    pub fn first_database(&self) -> i64 {
        self.location.target().map_or(0, |target| target.db)
    }

    /// The sidecar is shutting down: what waits for a connection waits no longer than a moment.
    pub fn close(&self) {
        self.permits.close();
    }

    /// From now on the upstream is at `target`: what is under way ends where it began, everything else goes there.
    pub fn move_to(&self, target: Target) {
        tracing::info!(upstream = %target.name(), "the upstream has moved; connections are opened again");
        self.location.change(target);
        self.circuit.begin_again();
    }

    /// Why what waits is not sent.
    pub(super) fn unreachable(&self) -> ConnectError {
        self.circuit.why().unwrap_or_else(|| {
            let name = self.location.target().map(|target| target.name()).unwrap_or_default();
            ConnectError::Unreachable(name, "no connection in time".into())
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
