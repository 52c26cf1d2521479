//! What clients meet: listeners and workers.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::check::Failure;
use super::descriptors;
use crate::access::Access;
use crate::config::{PubSubMode, Settings};
use crate::dispatch::Owned;
use crate::route::Router;
use crate::server::{Setup, Workers, bind};
use crate::upstream::{Common, Gate, Hub, Target, Version, watch};

pub(super) struct Front {
    accepting: JoinSet<()>,
    workers: Arc<Workers>,
}

impl Front {
    /// Binds every address, then starts the workers: a port that cannot be had leaves nothing half open.
    pub(super) async fn open(
        settings: &Settings,
        owned: &Arc<Owned>,
        access: Arc<Access>,
        target: Result<Target, String>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, Failure> {
        let mut listeners = Vec::new();
        for address in &settings.server.listen {
            listeners.push(bind(address).await.map_err(|error| Failure::bind(address, &error))?);
        }
        let metrics = owned.metrics.clone();
        let gate = Gate::new(&settings.upstream, metrics.clone());
        let upstream = Arc::new(Common { target, settings: settings.upstream.clone(), gate, metrics: metrics.clone() });
        let version = Version::default();
        tasks.spawn(watch(upstream.clone(), version.clone()));
        let router = Arc::new(Router::new(owned.mappings.keyspace.clone(), &settings.security.deny));
        let hub = (settings.pubsub.mode == PubSubMode::Shared).then(|| {
            let (hub, task) = Hub::new(upstream.clone(), settings.pubsub.subscriber_output.0);
            tasks.spawn(task.run());
            hub
        });
        let limits = descriptors::make_room(settings);
        let setup = Setup { router, owned: owned.clone(), access, upstream, hub, version, limits, metrics };
        let workers = Workers::start(settings.server.workers, &setup, settings.server.shutdown_timeout);
        let workers = Arc::new(workers.map_err(|error| Failure::Start(error.to_string()))?);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            tracing::info!(listen = %listener.name, "ready for clients");
            let workers = workers.clone();
            accepting.spawn(async move { listener.accept(&workers).await });
        }
        Ok(Self { accepting, workers })
    }

    /// No new clients; those that are here get what they are owed.
    pub(super) async fn close(mut self) {
        self.accepting.shutdown().await;
        if let Some(workers) = Arc::into_inner(self.workers) {
            workers.drain().await;
        }
    }
}
