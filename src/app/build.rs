//! Puts the parts together: store, statements, definitions, cache, upstream.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::check::{Failure, Source, plans};
use crate::cache::{Cache, Planned};
use crate::config::{self, Settings};
use crate::definitions::{DefinitionSource, Definitions, Reloader};
use crate::dispatch::Owned;
use crate::dispatch::listing::Scans;
use crate::journal::{Journal, Waiting};
use crate::mapping::{Kind, Mapping, Mappings};
use crate::store::{ALL, Store, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::planted::is_planted;
use crate::upstream::{PrivateServer, Target};

/// A store with the statements of every mapping.
pub(super) struct Parts {
    store: Arc<Store>,
    planned: Vec<(Mapping, Source, bool)>,
}

impl Parts {
    /// Makes the statements.
    ///
    /// # Errors
    /// The store's, when it does not answer; inside, every fault of every mapping.
    async fn plan(store: Arc<Store>, mappings: &Mappings) -> Result<Result<Self, Failure>, StoreError> {
        let (sources, faults) = plans(&store, mappings, false).await?;
        if !faults.is_empty() {
            return Ok(Err(Failure::Faults(faults)));
        }
        let mut planned = Vec::new();
        for (mapping, source) in mappings.list.iter().zip(sources) {
            let watched = is_watched(&store, mapping).await?;
            if let Source::Statements(plan) = &source {
                for (key, doubt) in plan.doubts() {
                    tracing::error!(mapping = mapping.pattern.text(), key, "{doubt}");
                }
            }
            planned.push((mapping.clone(), source, watched));
        }
        Ok(Ok(Self { store, planned }))
    }

    /// Empty definitions and an empty cache; with the journal of the cache that it replaces, if it does.
    async fn into_owned(
        self,
        mappings: Mappings,
        settings: &Settings,
        metrics: Arc<Metrics>,
        inherited: Option<Arc<Journal>>,
    ) -> Result<Arc<Owned>, Failure> {
        let store = self.store;
        let (journal, waiting) = match inherited {
            Some(journal) => (Some(journal), Waiting::default()),
            None => journal(settings, &mappings, &metrics).await?,
        };
        metrics.store_up.set(1);
        let (mut sources, mut cached) = (Vec::new(), Vec::new());
        for (mapping, source, watched) in self.planned {
            let (plan, checked) = match source {
                Source::Statements(plan) => (Some(*plan), None),
                Source::File(records) => (None, Some(records)),
                Source::Faulty => continue,
            };
            match (mapping.kind, plan) {
                (Kind::Definition, plan) => {
                    sources.push(DefinitionSource { mapping, plan, checked: Mutex::new(checked) })
                }
                (Kind::Cache, Some(plan)) => cached.push(Planned { mapping, plan, watched }),
                (Kind::Cache, None) => {}
            }
        }
        let definitions = Arc::new(Definitions::default());
        let reloader = Reloader::new(definitions.clone(), sources, store.clone(), metrics.clone());
        let cache = Cache::new(cached, settings, journal.clone(), store.clone(), Handle::current(), metrics.clone());
        if let Some(journal) = journal {
            replay(&journal, waiting, &store, &mappings, &cache).await?;
        }
        Ok(Arc::new(Owned {
            mappings: Arc::new(mappings),
            definitions,
            cache: Arc::new(cache),
            reloader: Arc::new(reloader),
            scans: Scans::default(),
            store,
            metrics,
        }))
    }
}

/// The journal, if some mapping defers writes or the file is there from before.
async fn journal(
    settings: &Settings,
    mappings: &Mappings,
    metrics: &Arc<Metrics>,
) -> Result<(Option<Arc<Journal>>, Waiting), Failure> {
    let is_needed = mappings.list.iter().any(|mapping| mapping.config.defers());
    if !is_needed && !settings.journal.path.exists() {
        return Ok((None, Waiting::default()));
    }
    let opened = Journal::open(&settings.journal, metrics.clone()).await;
    let (journal, waiting) = opened.map_err(|error| Failure::Start(format!("journal.path: {error}")))?;
    Ok((Some(Arc::new(journal)), waiting))
}

/// What was acknowledged before a crash lies over every record before a client is served (C5).
async fn replay(
    journal: &Journal,
    waiting: Waiting,
    store: &Store,
    mappings: &Mappings,
    cache: &Cache,
) -> Result<(), Failure> {
    let failed = |error: String| Failure::Start(format!("the journal cannot be replayed: {error}"));
    let Waiting { mut entries, taken, incarnation } = waiting;
    let batches: Vec<u64> = taken.iter().map(|(batch, _)| *batch).collect();
    let applied = match batches.iter().max() {
        Some(_) => fence(store, &incarnation, &batches).await.map_err(|error| failed(error.to_string()))?,
        None => 0,
    };
    if batches.iter().any(|batch| *batch < applied) {
        tracing::warn!(
            "the store has applied later deferred writes of this journal: its file has gone back in time (a copy \
             that was put back?); what waited in it then is saved again"
        );
    }
    for (batch, taken) in taken {
        if batch == applied && !is_planted("double-replay") {
            journal.applied(batch).await.map_err(|error| failed(error.to_string()))?;
        } else {
            journal.give_back(batch).await.map_err(|error| failed(error.to_string()))?;
            entries.extend(taken);
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    tracing::info!(fields = entries.len(), "deferred writes of before are replayed from the journal");
    for entry in entries {
        let mapping = mappings.keyspace.find(&entry.mapping).filter(|id| mappings.list[*id].config.writes_table());
        match mapping {
            Some(mapping) => cache.replay(mapping, vec![entry]),
            None => tracing::error!(
                mapping = entry.mapping,
                "a deferred write waits for a mapping that is not configured any more (or writes no table); it stays in the journal"
            ),
        }
    }
    Ok(())
}

/// The last batch that was applied of the incarnation before; from then on nothing of it is, also not what the network
/// still delivers. Asks until the store answers: without that nobody knows which batches were applied.
async fn fence(store: &Store, incarnation: &str, batches: &[u64]) -> Result<u64, StoreError> {
    loop {
        match store.fence(incarnation, ALL, batches).await {
            Err(error) if error.is_final() => tracing::warn!(%error, "{WAITING}"),
            told => return told,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Hazard 7: a mapping whose triggers are missing would hear of nothing. It is served, but a cached key of it for no
/// longer than `cache.max_staleness`.
async fn is_watched(store: &Store, mapping: &Mapping) -> Result<bool, StoreError> {
    let missing = match store.missing_triggers(mapping).await {
        Ok(missing) => missing,
        Err(error) if error.is_final() => return Err(error),
        Err(error) => vec![error.to_string()],
    };
    if missing.is_empty() {
        return Ok(true);
    }
    let noticed = match mapping.kind {
        Kind::Cache => "after cache.max_staleness",
        Kind::Definition => "at a reload (SIGHUP, POST /reload)",
    };
    tracing::error!(
        mapping = mapping.pattern.text(),
        missing = missing.join(", "),
        "change triggers are missing: changes of this mapping are noticed only {noticed}; \
         install them with `hearthside triggers --install`"
    );
    Ok(false)
}

const WAITING: &str = "waiting for the store before the port opens";

/// One attempt, before any port is bound, so that a faulty mapping is told and nothing else happens.
/// `None` when the store does not answer yet.
pub(super) async fn connect_once(settings: &config::Store, mappings: &Mappings) -> Result<Option<Parts>, Failure> {
    let planned = match Store::connect(settings).await {
        Ok(store) => Parts::plan(Arc::new(store), mappings).await,
        Err(StoreError::Refused(text)) => return Err(Failure::fault("store.url", &text)),
        Err(error) => Err(error),
    };
    match planned {
        Ok(parts) => parts.map(Some),
        Err(error) => {
            tracing::warn!(%error, "{WAITING}");
            Ok(None)
        }
    }
}

/// Definitions, all loaded, and an empty cache. Waits for a store that does not answer, and says so.
pub(super) async fn owned(
    early: Option<Parts>,
    mappings: Mappings,
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Owned>, Failure> {
    let (mut parts, mut attempt) = (early, 0_u64);
    let parts = loop {
        if let Some(parts) = parts {
            break parts;
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis((attempt * 100).min(3000))).await;
        parts = connect_once(&settings.store, &mappings).await?;
    };
    let owned = parts.into_owned(mappings, settings, metrics.clone(), None).await?;
    // A failure has been told by the reloader and is tried again.
    while owned.reloader.reload_all().await.is_err() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(owned)
}

/// Other mappings over the same store, with their definitions loaded, to take the place of `old`.
///
/// # Errors
/// Everything that keeps them from being served; then nothing has changed.
pub(super) async fn successor(old: &Owned, mappings: Mappings, settings: &Settings) -> Result<Arc<Owned>, Failure> {
    let unavailable = |error: StoreError| Failure::Start(format!("the store cannot be asked: {error}"));
    let parts = Parts::plan(old.store.clone(), &mappings).await.map_err(unavailable)??;
    let owned = parts.into_owned(mappings, settings, old.metrics.clone(), old.cache.journal()).await?;
    owned.reloader.reload_all().await.map_err(|failed| Failure::Start(failed.join("; ")))?;
    Ok(owned)
}

/// The configured upstream, or a private one; or the reason why there is none.
pub(super) async fn upstream(
    settings: &config::Upstream,
) -> Result<(Option<PrivateServer>, Result<Target, String>), Failure> {
    let parse =
        |settings: &config::Upstream| Target::parse(settings).map_err(|text| Failure::fault("upstream.url", &text));
    if !settings.url.is_empty() {
        return Ok((None, Ok(parse(settings)?)));
    }
    match PrivateServer::start(Path::new(&settings.private_dir)).await {
        Ok(server) => {
            let target = parse(&config::Upstream { url: server.url(), ..settings.clone() })?;
            Ok((Some(server), Ok(target)))
        }
        Err(reason) => {
            tracing::warn!(%reason, "owned keys are served; pass-through commands are answered with this error");
            Ok((None, Err(reason)))
        }
    }
}
