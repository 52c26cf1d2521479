//! What serves clients: the listeners, the workers and the connection to the upstream, opened and closed in order.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::check::Failure;
use super::reload::Sidecar;
use crate::admin::Readiness;
use crate::config::{self, PubSubMode};
use crate::inspect::Subject;
use crate::server::{Edition, Listener, Passed, Setup, Workers, bind};
use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::{LastingPart, Metrics, lasting};
use crate::upstream::{ClusterTask, Endpoint, Hub, NearTask, ReplicaTask, SentinelTask, Topology, watch};

pub(super) struct Serving {
    listeners: Vec<Arc<Listener>>,
    accepting: JoinSet<()>,
    workers: Arc<Workers>,
    /// The upstream server.
    pub(super) upstream: Arc<Endpoint>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

impl Serving {
    /// Binds every address, then starts the workers: a port that cannot be had leaves nothing half open. Clients that
    /// come wait until they are accepted.
    pub(super) async fn open(
        topology: Result<Topology, String>,
        sidecar: &mut Sidecar,
        passed: &mut Passed,
    ) -> Result<Self, Failure> {
        sidecar.reading.show_limits(&sidecar.metrics.cache.limits);
        let edition = sidecar.edition_in(&sidecar.modes);
        let kept = sidecar.near.subscribe();
        let (metrics, tasks) = (sidecar.metrics.clone(), &mut sidecar.tasks);
        let settings = &sidecar.reading.config.settings.clone();
        let listeners = bind_all(&settings.server, passed).await?;
        let upstream = Arc::new(Endpoint::new(topology, &settings.upstream, &metrics));
        let (watched, panics) = (upstream.clone(), metrics.panics.clone());
        tasks.spawn(lasting(LastingPart::UpstreamHealth, panics.clone(), async move || watch(watched.clone()).await));
        let mut sentinels = SentinelTask::new(upstream.clone());
        tasks.spawn(lasting(LastingPart::Sentinels, panics.clone(), async move || sentinels.run().await));
        let mut cluster = ClusterTask::new(upstream.clone());
        tasks.spawn(lasting(LastingPart::Cluster, panics.clone(), async move || cluster.run().await));
        let mut replicas = ReplicaTask::new(upstream.clone());
        tasks.spawn(lasting(LastingPart::Replicas, panics.clone(), async move || replicas.run().await));
        let mut near = NearTask::new(upstream.clone(), kept);
        tasks.spawn(lasting(LastingPart::Near, panics.clone(), async move || near.run().await));
        let hub = (settings.pubsub.mode == PubSubMode::Shared).then(|| {
            let (hub, mut task) = Hub::new(upstream.clone(), settings.pubsub.subscriber_output.0, None);
            tasks.spawn(lasting(LastingPart::Subscriptions, panics.clone(), async move || task.run().await));
            hub
        });
        let setup = Setup { edition: Arc::new(edition), upstream: upstream.clone(), hub, metrics: metrics.clone() };
        let workers = Workers::start(settings.server.workers, &setup, settings.server.shutdown_timeout);
        let workers = Arc::new(workers.map_err(|error| Failure::Start(error.to_string()))?);
        let readiness = sidecar.readiness.clone();
        let serving = Self { listeners, accepting: JoinSet::new(), workers, upstream, metrics, readiness };
        serving.readiness.shows(serving.subject(&setup.edition));
        Ok(serving)
    }

    /// Accepts clients from now on.
    pub(super) fn accept(&mut self, panics: &Arc<PanicMetrics>) {
        for listener in &self.listeners {
            tracing::info!(listen = %listener.name, "ready for clients");
            let (listener, workers) = (listener.clone(), self.workers.clone());
            let accepting = async move || listener.accept(&workers).await;
            self.accepting.spawn(lasting(LastingPart::Accepting, panics.clone(), accepting));
        }
    }

    /// Takes every client over to another edition; when this returns, no request begins by the old one.
    pub(super) async fn adopt(&self, edition: Edition) {
        let subject = self.subject(&edition);
        self.workers.adopt(&Arc::new(edition)).await;
        self.readiness.shows(subject);
    }

    /// What can be looked into while an edition is in force.
    fn subject(&self, edition: &Edition) -> Subject {
        edition.subject(self.upstream.clone(), self.workers.registry.clone(), self.metrics.clone())
    }

    /// Accepts no more clients; those that are connected get their replies, and are closed.
    pub(super) async fn close(mut self) {
        self.accepting.shutdown().await;
        join_all(self.listeners.iter().map(|listener| listener.close(&self.workers))).await;
        self.listeners.clear();
        self.upstream.close();
        if let Some(workers) = Arc::into_inner(self.workers) {
            workers.drain().await;
        }
    }
}

/// Every address is bound before one of them is served.
async fn bind_all(settings: &config::Server, passed: &mut Passed) -> Result<Vec<Arc<Listener>>, Failure> {
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let bound = bind(address, settings, passed).await;
        listeners.push(Arc::new(bound.map_err(|error| Failure::bind("server.listen", address, &error))?));
    }
    match passed.rest() {
        rest if rest.is_empty() => Ok(listeners),
        // A client that connects there would wait for ever.
        rest => Err(Failure::Start(format!(
            "a socket that listens on {} was passed (LISTEN_FDS), which is neither in server.listen nor admin.listen",
            rest.join(", ")
        ))),
    }
}
