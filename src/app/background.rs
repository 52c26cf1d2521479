//! Starts the tasks that run in the background: the change feed, reloading of definitions, the housekeeping of the
//! cache, and the watch over the store's health. What each of them does stands in the rooms below.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::admin::Readiness;
use crate::cache;
use crate::dispatch::{ModeOrders, Owned, Which};
use crate::store::{Change, OnChange, Place, Standing, Store, Word};
use crate::telemetry::metrics::{AppMetrics, PanicMetrics};
use crate::telemetry::{LastingPart, Metrics, lasting};

/// The mappings that changes of the store are applied to: one set of them, or two while a reload replaces one by the
/// other.
#[derive(Debug)]
pub(super) struct Audience {
    members: Mutex<Vec<Arc<Owned>>>,
    /// Where other modes are asked for.
    orders: ModeOrders,
}

impl Audience {
    /// Nobody yet.
    pub(super) fn new(orders: ModeOrders) -> Self {
        Self { members: Mutex::default(), orders }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Owned>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on changes are applied to `owned`, too.
    pub(super) fn join(&self, owned: Arc<Owned>) {
        let mut members = self.members();
        members.push(owned);
        Self::follow(&members);
    }

    /// From now on changes are applied to `owned` only.
    pub(super) fn only(&self, owned: &Arc<Owned>) {
        let mut members = self.members();
        members.retain(|member| Arc::ptr_eq(member, owned));
        Self::follow(&members);
    }

    /// Stores are told for which mappings changes are wanted.
    fn follow(members: &[Arc<Owned>]) {
        for member in members {
            member.store.follow(members.iter().flat_map(|member| &member.mappings.list));
        }
    }

    fn tell(&self, change: &Change) {
        let members = self.members().clone();
        members.iter().for_each(|owned| owned.apply(change.clone()));
    }

    /// Does what another sidecar has been asked.
    fn obey(&self, (word, place): (Word, Place)) {
        match word {
            Word::Mode { mapping, mode, percent } => {
                self.orders.pass_on(mapping.map_or(Which::All, Which::One), mode, percent, place);
            }
            Word::Invalidate(keys) => {
                let members = self.members().clone();
                members.iter().for_each(|owned| _ = owned.invalidate(keys.as_bytes(), "command"));
            }
        }
    }
}

/// What goes on as long as the process lives.
pub(super) fn of_store(
    tasks: &mut JoinSet<()>,
    store: &Arc<Store>,
    metrics: &Metrics,
    audience: &Arc<Audience>,
    readiness: &Arc<Readiness>,
) {
    let (watched, audience, informed) = (store.clone(), audience.clone(), readiness.clone());
    let heard = store.clone();
    let on_change: OnChange = Arc::new(move |change| {
        informed.feed_told(&change);
        match &change {
            Change::Word(word) => heard.hear(word).into_iter().for_each(|word| audience.obey(word)),
            change => audience.tell(change),
        }
    });
    let panics = &metrics.panics;
    tasks.spawn(lasting(LastingPart::ChangeFeed, panics.clone(), async move || watched.watch(on_change.clone()).await));
    let (asked, metrics, readiness) = (store.clone(), metrics.app.clone(), readiness.clone());
    let ask = async move || ask_store(&asked, &metrics, &readiness).await;
    tasks.spawn(lasting(LastingPart::StoreHealth, panics.clone(), ask));
}

/// What goes on as long as these mappings are served.
pub(super) fn of_owned(
    owned: &Arc<Owned>,
    of_cache: Option<cache::Tasks>,
    schema_interval: Duration,
    panics: &Arc<PanicMetrics>,
) -> JoinSet<()> {
    let mut tasks = without_store(owned, panics);
    owned.show_plans();
    let (watched, shown) = (owned.clone(), owned.clone());
    let watch = async move || watch_schema(&watched, schema_interval).await;
    tasks.spawn(lasting(LastingPart::SchemaWatch, panics.clone(), watch));
    tasks.spawn(lasting(LastingPart::Deferring, panics.clone(), async move || show_deferring(&shown).await));
    if let Some(of_cache) = of_cache {
        of_cache.begin(&mut tasks, panics);
    }
    tasks
}

/// Keeps shown which mappings take deferred writes, for ever.
async fn show_deferring(owned: &Owned) {
    let mut ticker = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticker.tick().await;
        owned.show_deferring();
    }
}

/// Looks again and again whether the schema has changed, and when the change feed says so, for ever. Not all sidecars
/// of a database ask at once.
async fn watch_schema(owned: &Arc<Owned>, interval: Duration) {
    let (mut replanning, mut was_seen) = (JoinSet::new(), true);
    loop {
        let jitter = interval.mul_f64(fastrand::f64() * 0.2);
        tokio::select! {
            () = tokio::time::sleep(interval.saturating_sub(jitter)) => {}
            () = owned.schema_asked.notified() => {}
        }
        let looked = owned.follow_schema(&mut replanning).await;
        match (was_seen, &looked) {
            (true, Err(error)) => tracing::info!(
                %error,
                "the schema cannot be looked at: until it can, what is cached is soon held to cache.max_staleness"
            ),
            (false, Ok(())) => tracing::info!("the schema can be looked at again"),
            _ => {}
        }
        was_seen = looked.is_ok();
    }
}

/// What goes on while there is no store yet: definitions from files may be loaded again.
pub(super) fn without_store(owned: &Arc<Owned>, panics: &Arc<PanicMetrics>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (asked, reloader) = (owned.clone(), owned.reloader.clone());
    tasks.spawn(lasting(LastingPart::ReadingAgain, panics.clone(), async move || asked.reload_when_asked().await));
    tasks.spawn(lasting(LastingPart::Definitions, panics.clone(), async move || reloader.run().await));
    tasks
}

/// How long the store may take to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the store answers; if not, why.
async fn answer(store: &Store) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, store.ping()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the store does not answer: nothing came within {} s", PATIENCE.as_secs())),
    }
}

/// What is counted of loads from hot standbys is shown.
fn show_replica_reads(store: &Store, metrics: &AppMetrics) {
    let Some(reads) = store.replica_reads() else { return };
    metrics.replica_up.set(i64::from(reads.is_up));
    for (counter, count) in [(&metrics.replica_loads, reads.there), (&metrics.replica_refusals, reads.elsewhere)] {
        counter.inc_by(count.saturating_sub(counter.get()));
    }
}

/// Keeps `store_up`, which `/readyz` looks at, and what the store takes.
async fn ask_store(store: &Store, metrics: &AppMetrics, readiness: &Readiness) {
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    let mut said = Standing::Writable;
    loop {
        ticker.tick().await;
        let asked = Instant::now();
        let answer = answer(store).await;
        readiness.store_answered(&answer, asked.elapsed());
        let up = answer.is_ok();
        let was_up = metrics.store_up.set(i64::from(up)) == 1;
        match (was_up, answer) {
            (true, Err(why)) => tracing::warn!(up, store = store.name(), why, "the store's health changed"),
            (false, Ok(())) => tracing::info!(up, store = store.name(), "the store's health changed"),
            _ => {}
        }
        show_replica_reads(store, metrics);
        let standing = store.standing();
        metrics.store_writable.set(i64::from(up && standing.takes_writes()));
        if standing != said {
            match standing.takes_writes() {
                true => tracing::info!("the store takes writes again"),
                false => tracing::warn!("{standing}"),
            }
            said = standing;
        }
    }
}
