//! The composition root: builds the house from a configuration, runs it, and takes it down in order.

mod build;
mod check;
mod commands;
mod descriptors;
mod front;
mod reading;
mod reload;
mod signals;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use check::{Failure, check};
pub use commands::{commands, refused};
pub use reading::Reading;

use front::Front;
use reload::House;
use signals::{Signal, Signals};
use upkeep::Audience;

use crate::access::Token;
use crate::admin::{self, Admin, Names, Readiness};
use crate::config::{self, Loaded};
use crate::dispatch::Owned;
use crate::telemetry::Metrics;
use crate::upstream::{PrivateServer, Target};

/// Runs a sidecar until it is told to stop; `reread` reads the configuration anew.
///
/// # Errors
/// [`Failure::Faults`] before any port is bound, if the store answers at once; [`Failure::Start`] when a port or
/// thread cannot be had.
pub async fn run(reading: Reading, reread: impl Fn() -> Loaded) -> Result<(), Failure> {
    let settings = reading.config.settings.clone();
    let early = build::connect_once(&settings.store, &reading.mappings).await?;
    let mut signals = Signals::new().map_err(|error| Failure::Start(error.to_string()))?;
    let metrics = Arc::new(Metrics::default());
    let readiness = Arc::new(Readiness::new(metrics.clone()));
    let mut tasks = JoinSet::new();
    open_admin(&settings.admin, reading.token.clone(), &mut tasks, &metrics, &readiness).await?;
    let owned = tokio::select! {
        owned = build::owned(early, reading.mappings.clone(), &settings, &metrics) => owned?,
        () = signals.stop() => return Ok(()),
    };
    let audience = Arc::new(Audience::default());
    audience.join(owned.clone());
    upkeep::of_store(&mut tasks, &owned.store, &metrics, &audience);
    let upkeep = upkeep::of_owned(&owned, &settings);
    let (private, target) = build::upstream(&settings.upstream).await?;
    let mut house = House { reading, owned, upkeep, audience, readiness };
    let served = serve(&mut house, target, &mut tasks, &mut signals, reread).await;
    // 3. What was acknowledged and not saved; what the store does not take in time stays in the journal.
    drain(&house.owned, settings.server.shutdown_timeout).await;
    // 4. The rest of the house.
    house.upkeep.shutdown().await;
    tasks.shutdown().await;
    // 5. The private upstream, also when a port could not be had: it must not outlive us.
    if let Some(private) = private {
        PrivateServer::stop(private).await;
    }
    tracing::info!("stopped");
    served
}

/// Serves clients until a signal says to stop.
async fn serve(
    house: &mut House,
    target: Result<Target, String>,
    tasks: &mut JoinSet<()>,
    signals: &mut Signals,
    reread: impl Fn() -> Loaded,
) -> Result<(), Failure> {
    let edition = house.reading.edition(&house.owned);
    let front = Front::open(&house.reading.config.settings, edition, target, tasks).await?;
    house.readiness.loaded(house.owned.clone());
    while let Signal::Reload = signals.next().await {
        tokio::select! {
            () = house.reload(&front, reread()) => {}
            () = signals.stop() => break,
        }
    }
    // 1. Not ready, no new clients; 2. those that are here get what they are owed.
    tracing::info!("shutting down");
    house.readiness.drain();
    front.close().await;
    Ok(())
}

async fn drain(owned: &Owned, patience: Duration) {
    match tokio::time::timeout(patience, owned.cache.flush_all_deferred()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "deferred writes stay in the journal until the next start"),
        Err(_) => tracing::warn!("the store was too slow; deferred writes stay in the journal until the next start"),
    }
}

async fn open_admin(
    settings: &config::Admin,
    token: Option<Token>,
    tasks: &mut JoinSet<()>,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> Result<(), Failure> {
    let address = &settings.listen;
    if address.is_empty() {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::bind(address, &error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;
    tracing::info!(%listen, "admin port");
    let names = Arc::new(Names::new(&settings.hosts, address));
    let admin = Admin { metrics: metrics.clone(), readiness: readiness.clone(), token, names };
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, admin).await {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(())
}
