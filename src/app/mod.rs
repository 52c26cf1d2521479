//! The composition root: builds the house from a configuration, runs it, and takes it down in order.

mod build;
mod check;
mod signals;
mod upkeep;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use check::{Failure, check, connect_faults};

use build::Parts;
use signals::Signal;

use crate::admin::{self, Admin, Readiness};
use crate::config::Config;
use crate::mapping::Mappings;
use crate::server::{Listener, Setup, Workers, bind};
use crate::store::{Change, OnChange, Store, StoreError};
use crate::telemetry::Metrics;
use crate::upstream::{Common, PrivateServer, Version};

/// Runs a sidecar until it is told to stop.
///
/// # Errors
/// [`Failure::Faults`] before any port is bound; [`Failure::Start`] when a port or thread cannot be had.
pub async fn run(config: Config, mappings: Mappings) -> Result<(), Failure> {
    let settings = config.settings;
    // The first connection is tried before any port is bound, so that a faulty mapping is told and nothing else happens.
    let early = match Store::connect(&settings.store).await {
        Ok(store) => Some(Parts::plan(store, &mappings).await?),
        Err(StoreError::Refused(text)) => return Err(Failure::fault("store.url", &text)),
        Err(_) => None,
    };
    let metrics = Arc::new(Metrics::default());
    let readiness = Arc::new(Readiness::new(metrics.clone()));
    let mut tasks = JoinSet::new();
    if !settings.admin.listen.is_empty() {
        let listener = TcpListener::bind(&settings.admin.listen)
            .await
            .map_err(|error| Failure::bind(&settings.admin.listen, &error))?;
        tracing::info!(listen = %settings.admin.listen, "admin port");
        let admin = Admin { metrics: metrics.clone(), readiness: readiness.clone() };
        tasks.spawn(async move {
            if let Err(error) = admin::serve(listener, admin).await {
                tracing::error!(%error, "the admin port failed");
            }
        });
    }
    let mut signals = signals::Signals::new().map_err(|error| Failure::Start(error.to_string()))?;
    let parts = match early {
        Some(parts) => parts,
        None => tokio::select! {
            parts = build::connect_patiently(&settings.store, &mappings) => parts?,
            () = signals.stop() => return Ok(()),
        },
    };
    let owned = parts.into_owned(mappings, &settings, metrics.clone());
    tokio::select! {
        () = build::load_definitions(&owned) => {}
        () = signals.stop() => return Ok(()),
    }
    upkeep::start(&mut tasks, &owned);
    readiness.loaded(owned.clone());

    let (private, target) = build::upstream(&settings.upstream).await?;
    let common = Arc::new(Common { target, settings: settings.upstream.clone(), metrics: metrics.clone() });
    let version = Version::default();
    tasks.spawn(crate::upstream::watch(common.clone(), version.clone()));
    let router = Arc::new(crate::route::Router::new(owned.mappings.keyspace.clone(), &settings.security.deny));
    let setup =
        Setup { router, owned: owned.clone(), upstream: common, version, limits: settings.limits.clone(), metrics };
    let listeners = bind_all(&settings.server.listen).await?;
    let workers = Workers::start(settings.server.workers, &setup, settings.server.shutdown_timeout)
        .map_err(|error| Failure::Start(error.to_string()))?;
    let workers = Arc::new(workers);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        tracing::info!(listen = %listener.name, "ready for clients");
        let workers = workers.clone();
        accepting.spawn(async move { listener.accept(&workers).await });
    }

    while let Signal::Reload = signals.next().await {
        tracing::info!("SIGHUP: definitions are loaded anew");
        owned.reloader.request_all(true);
    }
    // 1. not ready, no new clients; 2. clients get what they are owed; 3. the rest of the house; 4. the private upstream.
    tracing::info!("shutting down");
    readiness.drain();
    accepting.shutdown().await;
    if let Some(workers) = Arc::into_inner(workers) {
        workers.drain().await;
    }
    tasks.shutdown().await;
    if let Some(private) = private {
        PrivateServer::stop(private).await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn bind_all(addresses: &[String]) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(address).await.map_err(|error| Failure::bind(address, &error))?);
    }
    Ok(listeners)
}

/// The change feed's way into definitions and cache.
fn on_change(owned: &Arc<crate::dispatch::Owned>) -> OnChange {
    let owned = owned.clone();
    Arc::new(move |change: Change| owned.apply(change))
}
