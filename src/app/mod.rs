//! Builds the sidecar from a configuration, runs it, and stops its parts in order.

mod advice;
mod background;
mod begin;
mod build;
mod check;
mod commands;
mod descriptors;
mod doubts;
mod import;
mod looking;
mod mirroring;
mod modes;
mod near;
mod reading;
mod reload;
mod replay;
mod serving;
mod signals;
mod supervisor;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use check::{Asks, Failure, check};
pub use commands::{cleared, commands, refused};
pub use import::{ImportOrder, import};
pub use looking::{Question, look};
pub use reading::Reading;

pub use crate::server::Passed;

use begin::Begun;
use build::Built;
use reload::Sidecar;
use serving::Serving;
use signals::{Signal, Signals};

use crate::admin::{self, Admin, Names, Readiness};
use crate::config::{Loaded, Settings};
use crate::dispatch::{ModeOrder, Owned};
use crate::server::bind_admin;
use crate::telemetry::audit::AuditLine;
use crate::telemetry::{LastingPart, Metrics, lasting};
use crate::upstream::{PrivateServer, Topology};

/// Runs a sidecar until a signal says to stop, on the sockets that were `passed` and on others; `reread` reads the
/// configuration again.
///
/// # Errors
/// [`Failure::Faults`] before any port for clients is bound, if the store answers at once; [`Failure::Start`] when a
/// port, a thread, the journal or the private server's folder cannot be had.
pub async fn run(reading: Reading, reread: impl Fn() -> Loaded, mut passed: Passed) -> Result<(), Failure> {
    // First of all: a signal without a handler ends the process, or is lost if it is the first process of a container.
    let mut signals = Signals::new().map_err(|error| Failure::Start(error.to_string()))?;
    let settings = reading.config.settings.clone();
    let metrics = Arc::new(Metrics::default());
    metrics.cache.slow.configure(&settings.slowlog);
    metrics.audit.configure(&settings.audit).map_err(|text| Failure::fault("audit.file", &text))?;
    metrics.traces.configure(&settings.traces).map_err(|(setting, text)| Failure::fault(setting, &text))?;
    metrics.audit.add(&AuditLine::of_the_sidecar("start", &Ok::<(), &str>(())));
    let readiness = Arc::new(Readiness::new(&metrics));
    let mut tasks = JoinSet::new();
    tasks.spawn(metrics.traces.run(metrics.panics.clone()));
    if let Some(listener) = bind_to_admin(&settings, &mut passed).await? {
        let names = Arc::new(Names::new(&settings.admin.hosts, &settings.admin.listen));
        let (token, history) = (reading.token.clone(), Arc::default());
        let admin = Admin { metrics: metrics.clone(), readiness: readiness.clone(), token, names, history };
        open_admin(listener, admin, &mut tasks);
    }
    let started = async {
        let begun = begin::begin(&reading, &metrics, &readiness).await?;
        // This is the last step: what fails before it leaves no server behind.
        Ok((begun, build::upstream(&settings.upstream, &metrics.panics).await?))
    };
    let (Begun { built, mut coming }, (private, topology)) = tokio::select! {
        started = started => started?,
        () = signals.stop() => return Ok(()),
    };
    built.owned.events.are_of(topology.as_ref().map_or(0, Topology::db));
    let mut sidecar = Sidecar::new(reading, built, readiness, metrics, tasks);
    sidecar.look_after();
    let served = match Serving::open(topology, &mut sidecar, &mut passed).await {
        Ok(serving) => serve(serving, &mut sidecar, &mut coming, &mut signals, reread).await,
        Err(failure) => Err(failure),
    };
    stop(sidecar, private, patience_after(settings.server.shutdown_timeout)).await;
    served
}

/// Serves clients until a signal says to stop. What is `coming` takes the place of what is served without the store.
async fn serve(
    mut serving: Serving,
    sidecar: &mut Sidecar,
    coming: &mut JoinSet<Result<Built, Failure>>,
    signals: &mut Signals,
    reread: impl Fn() -> Loaded,
) -> Result<(), Failure> {
    if sidecar.owned.awaits.is_none() {
        sidecar.readiness.loaded(sidecar.owned.clone());
    }
    serving.accept(&sidecar.metrics.panics);
    supervisor::tell(supervisor::READY);
    let mut served = Ok(());
    let mut mirrored = tokio::time::interval(MIRROR_EVERY);
    mirrored.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload if reload(sidecar, &serving, signals, &reread).await => {}
                Signal::Reload => break,
            },
            Some(order) = sidecar.ordered() => {
                if !obey(sidecar, &serving, signals, order, &reread).await {
                    break;
                }
            }
            _ = mirrored.tick() => sidecar.mirror(&serving.upstream).await,
            Some(arrived) = coming.join_next() => match begin::whole(arrived) {
                Ok(new) => sidecar.arrive(&serving, new).await,
                Err(failure) => {
                    served = Err(failure);
                    break;
                }
            },
        }
    }
    // 1. Not ready, and no new clients; 2. clients that are connected get their replies.
    tracing::info!("shutting down");
    supervisor::tell(supervisor::STOPPING);
    sidecar.hear_no_more();
    sidecar.readiness.drain();
    let upstream = serving.upstream.clone();
    serving.close().await;
    // Nobody writes any more, and nothing remembers what waits.
    sidecar.mirror(&upstream).await;
    served
}

/// Reads the configuration again, and once more if a signal comes meanwhile: the file may have been read before what
/// that signal is about. False when a signal says to stop.
async fn reload(sidecar: &mut Sidecar, serving: &Serving, signals: &mut Signals, reread: impl Fn() -> Loaded) -> bool {
    loop {
        match heeding(signals, sidecar.reload(serving, reread())).await {
            Heard::Nothing => return true,
            Heard::Reload => {}
            Heard::Stop => return false,
        }
    }
}

/// Which signal came while something was done.
enum Heard {
    Nothing,
    /// At least one, and it was done to its end.
    Reload,
    /// It was given up.
    Stop,
}

/// Does something that takes a while, unless a signal says to stop.
async fn heeding(signals: &mut Signals, work: impl Future<Output = ()>) -> Heard {
    let (mut work, mut heard) = (pin!(work), Heard::Nothing);
    loop {
        tokio::select! {
            () = &mut work => return heard,
            signal = signals.next() => match signal {
                Signal::Stop => return Heard::Stop,
                Signal::Reload => heard = Heard::Reload,
            },
        }
    }
}

/// Does what somebody asks about modes. False when a signal says to stop, which does not wait for it.
async fn obey(
    sidecar: &mut Sidecar,
    serving: &Serving,
    signals: &mut Signals,
    order: ModeOrder,
    reread: impl Fn() -> Loaded,
) -> bool {
    match heeding(signals, sidecar.obey(serving, order)).await {
        Heard::Nothing => true,
        Heard::Reload => reload(sidecar, serving, signals, reread).await,
        Heard::Stop => {
            // Requests that are held are answered as before.
            serving.adopt(sidecar.edition_in(&sidecar.modes)).await;
            false
        }
    }
}

/// How often what was written is brought to the upstream, of mappings that are mirrored.
const MIRROR_EVERY: Duration = Duration::from_millis(500);

/// The least that what comes after the clients may take. Together with the default of `server.shutdown_timeout` it is
/// shorter than the ten seconds after which `docker stop` kills.
const LEAST: Duration = Duration::from_secs(3);

/// How long the store and the private server may take to save, when the clients are gone.
fn patience_after(shutdown_timeout: Duration) -> Duration {
    LEAST.max(shutdown_timeout / 2)
}

/// What was acknowledged and not saved goes to the store (what it does not take in time stays in the journal), while
/// the private upstream saves and ends. It must not live longer than this process, also when a port could not be had.
/// Then the rest of the sidecar.
async fn stop(mut sidecar: Sidecar, private: Option<PrivateServer>, patience: Duration) {
    let ended = async {
        if let Some(private) = private {
            private.stop(patience).await;
        }
    };
    // From here on only `drain` flushes.
    sidecar.background.shutdown().await;
    tokio::join!(drain(&sidecar.owned, patience), sidecar.owned.cache.note_hot_keys(), ended);
    sidecar.metrics.traces.flush().await;
    sidecar.tasks.shutdown().await;
    sidecar.metrics.audit.end(&AuditLine::of_the_sidecar("stop", &Ok::<(), &str>(())));
    tracing::info!("stopped");
}

async fn drain(owned: &Owned, patience: Duration) {
    if owned.awaits.is_some() {
        if owned.cache.journal().is_some() {
            let keys = owned.cache.count_deferred();
            tracing::info!(keys, "the store was never there: deferred writes stay in the journal until the next start");
        }
        return;
    }
    let flushed = tokio::time::timeout(patience, owned.cache.flush_all_deferred()).await;
    match (flushed, owned.cache.count_deferred()) {
        (Ok(Ok(())), 0) => {}
        (Ok(Ok(())), keys) => tracing::warn!(keys, "deferred writes stay in the journal until the next start"),
        (Ok(Err(error)), keys) => {
            tracing::warn!(%error, keys, "deferred writes stay in the journal until the next start");
        }
        (Err(_), keys) => {
            tracing::warn!(keys, "the store was too slow; deferred writes stay in the journal until the next start");
        }
    }
}

/// The admin port, if there is to be one.
async fn bind_to_admin(settings: &Settings, passed: &mut Passed) -> Result<Option<TcpListener>, Failure> {
    let address = &settings.admin.listen;
    if address.is_empty() {
        return Ok(None);
    }
    let bound = bind_admin(address, &settings.server, passed).await;
    let failed = |error: std::io::Error| Failure::bind("admin.listen", address, &error);
    let listener = bound.map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;
    tracing::info!(%listen, "admin port");
    Ok(Some(listener))
}

fn open_admin(listener: TcpListener, admin: Admin, tasks: &mut JoinSet<()>) {
    let (history, shown, panics) = (admin.history.clone(), admin.readiness.clone(), admin.metrics.panics.clone());
    let keep = async move || history.keep(|| shown.subject()).await;
    tasks.spawn(lasting(LastingPart::History, panics, keep));
    tasks.spawn(admin::serve(listener, admin));
}
