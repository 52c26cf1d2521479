//! Puts the parts together: store, statements, definitions, cache, upstream.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::check::{Failure, Source, plans};
use super::replay::replay;
use crate::cache::{self, Cache, Planned};
use crate::config::{self, Settings};
use crate::definitions::{DefinitionSource, Definitions, Reloader};
use crate::dispatch::Owned;
use crate::dispatch::listing::scans::Scans;
use crate::journal::{Journal, Waiting};
use crate::mapping::{Kind, Mapping, Mappings};
use crate::store::file::load_file;
use crate::store::{Plan, Store, StoreError, Unavailable};
use crate::telemetry::Metrics;
use crate::upstream::{NoServer, PrivateServer, Target};

/// Why there are no statements yet.
pub(super) enum Trouble {
    /// The store does not answer: it may later.
    Away(StoreError),
    /// It answers, and the configuration does not fit.
    Faulty(Failure),
}

pub(super) fn silent() -> StoreError {
    StoreError::Unavailable("it fell silent while its tables were looked at".into())
}

/// Everything owned, and what is to run beside its cache.
pub(super) struct Built {
    pub(super) owned: Arc<Owned>,
    pub(super) tasks: cache::Tasks,
}

/// What owned keys need besides the store.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) settings: Settings,
    pub(super) mappings: Mappings,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Ground {
    /// Definitions of these sources, none of them loaded, and an empty cache.
    fn owned(
        &self,
        store: Arc<Store>,
        sources: Vec<DefinitionSource>,
        cached: Vec<Planned>,
        awaits: Option<Arc<Unavailable>>,
    ) -> Built {
        let definitions = Arc::new(Definitions::default());
        let reloader = Reloader::new(definitions.clone(), sources, store.clone(), self.metrics.definitions.clone());
        let (cache, tasks) = Cache::new(cache::Parts {
            planned: cached,
            settings: &self.settings,
            journal: self.journal.clone(),
            store: store.clone(),
            runtime: Handle::current(),
            metrics: self.metrics.cache.clone(),
            deferred_metrics: self.metrics.write_behind.clone(),
        });
        let owned = Owned {
            mappings: Arc::new(self.mappings.clone()),
            definitions,
            cache,
            reloader: Arc::new(reloader),
            scans: Scans::new(self.metrics.owned.clone()),
            store,
            awaits,
            metrics: self.metrics.owned.clone(),
        };
        Built { owned: Arc::new(owned), tasks }
    }

    /// What can be served while the store has not answered yet: definitions from files, and of cached keys only
    /// deferred writes to columns that the journal remembers.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(super) async fn without_store(
        &self,
        columns: &HashMap<String, String>,
        away: Arc<Unavailable>,
    ) -> Result<Built, Failure> {
        let (mut sources, mut cached) = (Vec::new(), Vec::new());
        for mapping in &self.mappings.list {
            if let Some(path) = &mapping.config.file {
                let checked = load_file(mapping, path)
                    .map_err(|error| Failure::fault(&format!("{}.file", mapping.config.path), &error.to_string()))?;
                let checked = Mutex::new(Some(checked));
                sources.push(DefinitionSource { mapping: mapping.clone(), plan: None, checked });
            }
            let known = columns.get(mapping.pattern.text()).filter(|_| mapping.config.defers());
            if let Some(plan) = known.and_then(|columns| Plan::from_saved_columns(mapping, columns)) {
                cached.push(Planned { plan, watched: false });
            }
        }
        let store = Arc::new(Store::away(&self.settings.store, away.clone()));
        let built = self.owned(store, sources, cached, Some(away));
        built.owned.reloader.reload_all().await.map_err(|failed| Failure::Start(failed.join("; ")))?;
        Ok(built)
    }
}

/// A store with the statements of every mapping.
pub(super) struct Parts {
    store: Arc<Store>,
    planned: Vec<(Mapping, Source, bool)>,
}

impl Parts {
    /// One attempt to reach the store and to make the statements.
    pub(super) async fn of(settings: &config::Store, mappings: &Mappings) -> Result<Self, Trouble> {
        match Store::connect(settings).await {
            Ok(store) => Self::plan(Arc::new(store), settings, mappings).await,
            Err(StoreError::Refused(text)) => Err(Trouble::Faulty(Failure::fault("store.url", &text))),
            Err(error) => Err(Trouble::Away(error)),
        }
    }

    /// Makes the statements, within a time: a connection may fall silent for ever.
    async fn plan(store: Arc<Store>, settings: &config::Store, mappings: &Mappings) -> Result<Self, Trouble> {
        let most = settings.query_timeout * (1 + mappings.list.len() as u32);
        let planned = tokio::time::timeout(settings.connect_timeout + most, Self::plan_all(store, mappings)).await;
        planned.unwrap_or_else(|_| Err(Trouble::Away(silent())))
    }

    async fn plan_all(store: Arc<Store>, mappings: &Mappings) -> Result<Self, Trouble> {
        let (sources, faults) = plans(&store, mappings, false).await.map_err(Trouble::Away)?;
        if !faults.is_empty() {
            return Err(Trouble::Faulty(Failure::Faults(faults)));
        }
        let mut planned = Vec::new();
        for (mapping, source) in mappings.list.iter().zip(sources) {
            let watched = is_watched(&store, mapping).await.map_err(Trouble::Away)?;
            if let Source::Statements(plan) = &source {
                for (key, doubt) in plan.doubts() {
                    tracing::warn!(mapping = mapping.pattern.text(), key, "{doubt}");
                }
            }
            planned.push((mapping.clone(), source, watched));
        }
        Ok(Self { store, planned })
    }

    /// Empty definitions, and a cache over which lies what the journal held. `away` says meanwhile what that waits for.
    ///
    /// # Errors
    /// The journal's.
    pub(super) async fn into_owned(
        self,
        ground: &Ground,
        waiting: Waiting,
        away: Option<&Unavailable>,
    ) -> Result<Built, Failure> {
        ground.metrics.app.store_up.set(1);
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
                (Kind::Cache, Some(plan)) => cached.push(Planned { plan, watched }),
                (Kind::Cache, None) => {}
            }
        }
        if let Some(journal) = &ground.journal {
            remember(journal, &cached).await;
        }
        let built = ground.owned(self.store, sources, cached, None);
        if let Some(journal) = &ground.journal {
            replay(journal, waiting, &built.owned, away).await?;
        }
        Ok(built)
    }
}

/// Notes which columns deferred writes go to: a start without the store judges them by that.
async fn remember(journal: &Journal, cached: &[Planned]) {
    let defers = cached.iter().filter(|planned| planned.plan.mapping().config.defers());
    let columns = defers.filter_map(|planned| {
        let columns = planned.plan.columns()?;
        Some((planned.plan.mapping().pattern.text().to_owned(), columns))
    });
    if let Err(error) = journal.remember(columns.collect()).await {
        tracing::warn!(
            %error,
            "the journal does not remember the columns, by which a start without the store judges deferred writes"
        );
    }
}

/// The journal, if some mapping defers writes or the file is there from before.
///
/// # Errors
/// It cannot be had, or another process has it.
pub(super) async fn journal(
    settings: &Settings,
    mappings: &Mappings,
    metrics: &Metrics,
) -> Result<(Option<Arc<Journal>>, Waiting), Failure> {
    let is_needed = mappings.list.iter().any(|mapping| mapping.config.defers());
    if !is_needed && !settings.journal.path.exists() {
        return Ok((None, Waiting::default()));
    }
    let opened = Journal::open(&settings.journal, metrics.journal.clone()).await;
    let (journal, waiting) = opened.map_err(|error| Failure::Start(format!("journal.path: {error}")))?;
    metrics.write_behind.deferred_keys.set(journal.held() as i64);
    Ok((Some(Arc::new(journal)), waiting))
}

/// True when all change triggers of the mapping are there (hazard 7). Without them none of its changes would be seen:
/// it is served, but a cached key of it for no longer than `cache.max_staleness`.
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

/// Other mappings over the same store, with their definitions loaded, to take the place of `old`.
///
/// # Errors
/// Everything that keeps them from being served; then nothing has changed.
pub(super) async fn successor(
    old: &Owned,
    mappings: Mappings,
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<Built, Failure> {
    let planned = Parts::plan(old.store.clone(), &settings.store, &mappings).await;
    let parts = planned.map_err(|trouble| match trouble {
        Trouble::Away(error) => Failure::Start(format!("the store cannot be asked: {error}")),
        Trouble::Faulty(failure) => failure,
    })?;
    let (journal, waiting) = match old.cache.journal() {
        Some(journal) => (Some(journal), Waiting::default()),
        None => journal(settings, &mappings, metrics).await?,
    };
    let ground = Ground { settings: settings.clone(), mappings, journal, metrics: metrics.clone() };
    let built = parts.into_owned(&ground, waiting, None).await?;
    built.owned.reloader.reload_all().await.map_err(|failed| Failure::Start(failed.join("; ")))?;
    Ok(built)
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
        Err(reason @ NoServer::NotInstalled) => {
            tracing::warn!(%reason, "owned keys are served; pass-through commands are answered with this error");
            Ok((None, Err(reason.to_string())))
        }
        Err(NoServer::Failed(reason)) => Err(Failure::Start(reason)),
    }
}
