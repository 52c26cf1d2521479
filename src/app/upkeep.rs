//! What runs beside the clients: the change feed, reloads, housekeeping, the store's health.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Settings;
use crate::dispatch::Owned;
use crate::store::{Change, Store};
use crate::telemetry::Metrics;

/// The mappings that changes of the store are applied to: one set of them, or two while a reload replaces one by the
/// other.
#[derive(Debug, Default)]
pub(super) struct Audience(Mutex<Vec<Arc<Owned>>>);

impl Audience {
    /// From now on changes are applied to `owned`, too.
    pub(super) fn join(&self, owned: Arc<Owned>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(owned);
    }

    /// From now on changes are applied to `owned` only.
    pub(super) fn only(&self, owned: &Arc<Owned>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|member| Arc::ptr_eq(member, owned));
    }

    fn tell(&self, change: &Change) {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        members.iter().for_each(|owned| owned.apply(change.clone()));
    }
}

/// What goes on as long as the process lives.
pub(super) fn of_store(tasks: &mut JoinSet<()>, store: &Arc<Store>, metrics: &Arc<Metrics>, audience: &Arc<Audience>) {
    let (watched, audience) = (store.clone(), audience.clone());
    tasks.spawn(async move { watched.watch(Arc::new(move |change| audience.tell(&change))).await });
    tasks.spawn(ask_store(store.clone(), metrics.clone()));
}

/// What goes on as long as these mappings are served.
pub(super) fn of_owned(owned: &Arc<Owned>, settings: &Settings) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(owned.cache.clone().flush_for_ever(settings.journal.flush_interval));
    tasks.spawn(owned.cache.clone().renew_for_ever());
    tasks.spawn(owned.cache.clone().verify_for_ever(settings.verify.per_second));
    let reloader = owned.reloader.clone();
    tasks.spawn(async move { reloader.run().await });
    if !settings.store.sweep_interval.is_zero() {
        tasks.spawn(sweep(owned.clone(), settings.store.sweep_interval, settings.store.sweep_grace));
    }
    tasks.spawn(tidy(owned.clone()));
    tasks
}

/// What goes on while there is no store yet: definitions from files may be loaded again.
pub(super) fn without_store(owned: &Arc<Owned>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let reloader = owned.reloader.clone();
    tasks.spawn(async move { reloader.run().await });
    tasks
}

/// Removes rows of keys that have ended.
async fn sweep(owned: Arc<Owned>, interval: Duration, grace: Duration) {
    let mut ticker = tokio::time::interval(interval);
    loop {
        ticker.tick().await;
        let (rows, swept) = owned.cache.sweep(grace).await;
        owned.metrics.swept.inc_by(rows);
        if rows > 0 {
            tracing::debug!(rows, "rows of keys that have ended were removed");
        }
        if let Err(error) = swept {
            tracing::warn!(%error, "rows of keys that have ended cannot be removed now");
        }
    }
}

async fn tidy(owned: Arc<Owned>) {
    let mut ticker = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticker.tick().await;
        owned.cache.tidy();
    }
}

/// Keeps `store_up`, which `/readyz` looks at.
async fn ask_store(store: Arc<Store>, metrics: Arc<Metrics>) {
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticker.tick().await;
        let up = matches!(tokio::time::timeout(Duration::from_secs(3), store.ping()).await, Ok(Ok(())));
        let was_up = metrics.store_up.set(i64::from(up)) == 1;
        if up != was_up {
            tracing::warn!(up, store = store.name(), "the store's health changed");
        }
    }
}
