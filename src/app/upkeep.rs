//! What runs beside the clients: the change feed, reloads, housekeeping, the store's health.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Settings;
use crate::dispatch::Owned;

pub(super) fn start(tasks: &mut JoinSet<()>, owned: &Arc<Owned>, settings: &Settings) {
    tasks.spawn(owned.cache.clone().flush_for_ever(settings.journal.flush_interval));
    let (store, told) = (owned.store.clone(), owned.clone());
    tasks.spawn(async move { store.watch(Arc::new(move |change| told.apply(change))).await });
    tasks.spawn(owned.cache.clone().renew_for_ever());
    tasks.spawn(owned.cache.clone().verify_for_ever(settings.verify.per_second));
    let reloader = owned.reloader.clone();
    tasks.spawn(async move { reloader.run().await });
    if !settings.store.sweep_interval.is_zero() {
        tasks.spawn(sweep(owned.clone(), settings.store.sweep_interval, settings.store.sweep_grace));
    }
    tasks.spawn(tidy(owned.clone()));
    tasks.spawn(ask_store(owned.clone()));
}

/// Removes rows of keys that have ended.
async fn sweep(owned: Arc<Owned>, interval: Duration, grace: Duration) {
    let mut ticker = tokio::time::interval(interval);
    loop {
        ticker.tick().await;
        match owned.cache.sweep(grace).await {
            Ok(0) => {}
            Ok(rows) => {
                owned.metrics.swept.inc_by(rows);
                tracing::debug!(rows, "rows of keys that have ended were removed");
            }
            Err(error) => tracing::warn!(%error, "rows of keys that have ended cannot be removed now"),
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
async fn ask_store(owned: Arc<Owned>) {
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticker.tick().await;
        let up = matches!(tokio::time::timeout(Duration::from_secs(3), owned.store.ping()).await, Ok(Ok(())));
        let was_up = owned.metrics.store_up.set(i64::from(up)) == 1;
        if up != was_up {
            tracing::warn!(up, store = owned.store.name(), "the store's health changed");
        }
    }
}
