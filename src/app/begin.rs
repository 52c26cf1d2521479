//! The start: connects to the store, and waits for it. Meanwhile clients are served what does not need the store,
//! unless `server.wait_for_store` says that they wait too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use super::build::{self, Built, Ground, Parts, Trouble, silent};
use super::check::Failure;
use super::reading::Reading;
use crate::admin::Readiness;
use crate::journal::Waiting;
use crate::key_events::KeyEvents;
use crate::store::{StoreError, Unavailable};
use crate::telemetry::Metrics;
use crate::tracking::Tracking;

/// What is served from the beginning.
pub(super) struct Begun {
    pub(super) built: Built,
    /// What takes its place when the store is there; empty if it was there at once.
    pub(super) coming: JoinSet<Result<Built, Failure>>,
}

/// How long the port stays closed for a store that answers, and whose definitions are being loaded.
const GRACE: Duration = Duration::from_secs(3);
const LOADED_NEXT: &str = "it is there, and the definitions are being loaded; they are served when all are there";
/// Of attempts that fail like the one before, one of so many is logged as a warning.
const OFTEN: u64 = 20;

/// Asks the store once, and goes on asking while clients are served.
///
/// # Errors
/// Everything that keeps a store that answers at once from being served, and a journal that cannot be had.
pub(super) async fn begin(
    reading: &Reading,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> Result<Begun, Failure> {
    let (settings, mappings) = (reading.config.settings.clone(), reading.mappings.clone());
    let (journal, mut waiting) = build::journal(&settings, &mappings, metrics).await?;
    let columns = std::mem::take(&mut waiting.columns);
    let away = Arc::new(Unavailable::new("the store has not answered yet"));
    readiness.waits_for(away.clone());
    let tracking = Arc::new(Tracking::new(&settings.tracking, metrics.tracking.clone()));
    let events = Arc::new(KeyEvents::new(&settings.notify, metrics.key_events.clone()));
    let (metrics, settles, quotas) = (metrics.clone(), Arc::default(), Vec::new());
    let ground = Ground { settings, mappings, journal, quotas, metrics, settles, tracking, events };
    let mut arrival =
        Arrival { ground: ground.clone(), away: away.clone(), stuck: Arc::default(), logged: String::new() };
    let first = arrival.ask_once().await?;
    let (waits, is_there) = (ground.settings.server.wait_for_store, first.is_some());
    let stuck = arrival.stuck.clone();
    let mut coming = JoinSet::new();
    coming.spawn(arrival.happen(first, waiting));
    let arrived = tokio::select! {
        biased;
        Some(arrived) = coming.join_next(), if waits || is_there => Some(whole(arrived)?),
        () = patience(waits, is_there, &stuck) => None,
    };
    let built = match arrived {
        Some(built) => built,
        None => ground.without_store(&columns, away).await?,
    };
    Ok(Begun { built, coming })
}

/// Returns when the port is opened, whether the definitions are there or not: at once if the store does not answer, and
/// never if clients wait for it (`waits`).
async fn patience(waits: bool, is_there: bool, stuck: &Notify) {
    match is_there {
        _ if waits => std::future::pending().await,
        true => tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = stuck.notified() => {}
        },
        false => {}
    }
}

/// What has arrived.
///
/// # Errors
/// Why nothing ever will.
pub(super) fn whole(arrived: Result<Result<Built, Failure>, JoinError>) -> Result<Built, Failure> {
    arrived.unwrap_or_else(|error| Err(Failure::Start(error.to_string())))
}

/// Waits for the store, until the sidecar can serve what needs it.
struct Arrival {
    ground: Ground,
    away: Arc<Unavailable>,
    /// Notified when the definitions of a store that answers cannot be loaded.
    stuck: Arc<Notify>,
    /// What the log said last.
    logged: String,
}

impl Arrival {
    /// The first attempt; `None` when the store does not answer.
    ///
    /// # Errors
    /// It answers, and the configuration does not fit.
    async fn ask_once(&mut self) -> Result<Option<Parts>, Failure> {
        let settings = &self.ground.settings.store;
        let asking = Parts::of(settings, &self.ground.mappings, &self.ground.metrics.mappings);
        let asked = tokio::time::timeout(GRACE + settings.connect_timeout, asking).await;
        match asked.unwrap_or_else(|_| Err(Trouble::Away(silent()))) {
            Ok(parts) => Ok(Some(parts)),
            Err(Trouble::Faulty(failure)) => Err(failure),
            Err(trouble) => {
                self.tell(&trouble, 1);
                Ok(None)
            }
        }
    }

    /// Asks until the store answers and all definitions are loaded.
    async fn happen(mut self, first: Option<Parts>, waiting: Waiting) -> Result<Built, Failure> {
        let (mut found, mut attempt) = (first, 1_u64);
        let parts = loop {
            if let Some(parts) = found.take() {
                break parts;
            }
            tokio::time::sleep(Duration::from_millis((attempt * 100).min(3000))).await;
            attempt += 1;
            let ground = &self.ground;
            match Parts::of(&ground.settings.store, &ground.mappings, &ground.metrics.mappings).await {
                Ok(parts) => found = Some(parts),
                Err(Trouble::Faulty(failure)) if ground.settings.server.wait_for_store => return Err(failure),
                Err(trouble) => self.tell(&trouble, attempt),
            }
        };
        self.away.say(LOADED_NEXT);
        let built = parts.into_owned(&self.ground, waiting, Some(&self.away)).await?;
        self.away.say(LOADED_NEXT);
        // The reloader has logged it.
        while let Err(failed) = built.owned.reloader.load_first().await {
            self.away.say(format!("definitions cannot be loaded: {}", failed.join("; ")));
            self.stuck.notify_one();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(built)
    }

    /// Says what it waits for: to clients and probes always, in the log when it has changed.
    fn tell(&mut self, trouble: &Trouble, attempt: u64) {
        let why = match trouble {
            Trouble::Away(error @ StoreError::Unavailable(_)) => {
                format!("{error}; start the store, or correct store.url")
            }
            Trouble::Away(error) => error.to_string(),
            Trouble::Faulty(failure) => {
                format!("it answers, and does not fit the configuration: {}", failure.to_string().replace('\n', "; "))
            }
        };
        let meanwhile = match self.ground.settings.server.wait_for_store {
            true => "waiting for the store; the port stays closed (server.wait_for_store)",
            false => "waiting for the store; commands on keys that need it are answered LOADING",
        };
        if self.logged == why && !attempt.is_multiple_of(OFTEN) {
            tracing::debug!(attempt, %why, "{meanwhile}");
        } else if matches!(trouble, Trouble::Faulty(_)) {
            tracing::error!(attempt, %why, "{meanwhile}");
        } else {
            tracing::warn!(attempt, %why, "{meanwhile}");
        }
        self.ground.metrics.app.store.down(&why);
        self.away.say(why.clone());
        self.logged = why;
    }
}
