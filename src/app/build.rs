//! Puts the parts together: store, statements, definitions, cache, upstream.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::check::Failure;
use super::replay::replay;
use crate::cache::{self, Cache};
use crate::config::{self, Fault, Settings};
use crate::definitions::{DefinitionSource, Definitions, Reloader};
use crate::dispatch::listing::scans::Scans;
use crate::dispatch::{Owned, Settles};
use crate::journal::{Journal, Waiting};
use crate::key_events::KeyEvents;
use crate::mapping::{Kind, Mapping, Mappings};
use crate::quota::Quota;
use crate::store::file::load_file;
use crate::store::{CurrentPlan, Plan, Store, StoreError, Unavailable};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{MappingMetrics, PanicMetrics};
use crate::tracking::Tracking;
use crate::upstream::{NoServer, PrivateServer, Topology};

/// So many plans are asked for at once: a mapping whose table is locked does not hold up the others.
const AT_ONCE: usize = 4;

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
    /// The limits of the mappings that are served until then.
    pub(super) quotas: Vec<Arc<Quota>>,
    pub(super) metrics: Arc<Metrics>,
    /// Keys that are being settled, also by clients of what is served until then.
    pub(super) settles: Arc<Settles>,
    /// Who keeps which keys, whatever is served.
    pub(super) tracking: Arc<Tracking>,
    /// Who is told what happens to owned keys, whatever is served.
    pub(super) events: Arc<KeyEvents>,
}

impl Ground {
    /// Definitions of these sources, none of them loaded, and an empty cache.
    fn owned(
        &self,
        store: Arc<Store>,
        sources: Vec<DefinitionSource>,
        cached: Vec<CurrentPlan>,
        awaits: Option<Arc<Unavailable>>,
    ) -> Built {
        self.show_counts();
        store.count_with(&self.metrics.store);
        let mappings = Arc::new(self.mappings.clone());
        let (tracking, events) = (self.tracking.clone(), self.events.clone());
        let definitions = Arc::new(Definitions::telling(tracking.clone(), events.clone()));
        let reloader = Reloader::new(definitions.clone(), sources, store.clone(), self.metrics.definitions.clone());
        let (cache, tasks) = Cache::new(cache::Parts {
            plans: cached,
            settings: &self.settings,
            journal: self.journal.clone(),
            store: store.clone(),
            tracking: tracking.clone(),
            events: events.clone(),
            quotas: self.quotas.clone(),
            runtime: Handle::current(),
            mappings: self.metrics.mappings.clone(),
            metrics: self.metrics.cache.clone(),
            deferred_metrics: self.metrics.write_behind.clone(),
        });
        let owned = Owned {
            definitions,
            cache,
            reloader: Arc::new(reloader),
            settles: self.settles.clone(),
            tracking,
            events,
            scans: Scans::new(self.metrics.owned.clone()),
            store,
            awaits,
            reload_asked: Notify::new(),
            is_reading_again: AtomicBool::new(false),
            schema_asked: Notify::new(),
            metrics: self.metrics.owned.clone(),
            mapping_metrics: self.metrics.mappings.clone(),
            slow: self.metrics.cache.slow.clone(),
            counts: mappings.list.iter().map(|mapping| self.metrics.mappings.of(mapping.pattern.text())).collect(),
            mappings,
            near: Mutex::default(),
        };
        Built { owned: Arc::new(owned), tasks }
    }

    /// What is counted by mapping is shown before anything was counted.
    fn show_counts(&self) {
        for mapping in &self.mappings.list {
            let name = mapping.pattern.text();
            self.metrics.owned.show(name);
            self.metrics.mappings.show(name, mapping.kind == Kind::Cache);
            if mapping.kind == Kind::Cache {
                self.metrics.cache.show(name);
                self.metrics.write_behind.show(name);
            }
        }
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
                sources.push(from_file(mapping, path)?);
            }
            let known = columns.get(mapping.pattern.text()).filter(|_| mapping.config.defers());
            let plan = known.and_then(|columns| Plan::from_saved_columns(mapping, columns));
            cached.extend(plan.map(|plan| CurrentPlan::made(plan, self.metrics.mappings.clone())));
        }
        let store = Arc::new(Store::away(&self.settings.store, away.clone()));
        let built = self.owned(store, sources, cached, Some(away));
        built.owned.reloader.reload_all().await.map_err(|failed| Failure::Start(failed.join("; ")))?;
        Ok(built)
    }
}

/// The definitions of a file, read and checked.
///
/// # Errors
/// What is wrong with the file.
fn from_file(mapping: &Mapping, path: &Path) -> Result<DefinitionSource, Failure> {
    let begun = Instant::now();
    let checked = load_file(mapping, path)
        .map_err(|error| Failure::fault(&format!("{}.file", mapping.config.path), &error.to_string()))?;
    Ok(DefinitionSource::file(mapping.clone(), checked, begun))
}

/// A store with the plan of every mapping. One that the schema does not fit keeps none of the others from being served.
pub(super) struct Parts {
    store: Arc<Store>,
    definitions: Vec<DefinitionSource>,
    cached: Vec<CurrentPlan>,
}

impl Parts {
    /// One attempt to reach the store and to make the plans.
    pub(super) async fn of(
        settings: &config::Store,
        mappings: &Mappings,
        metrics: &Arc<MappingMetrics>,
    ) -> Result<Self, Trouble> {
        match Store::connect(settings).await {
            Ok(store) => {
                store.choose_feed(&mappings.list).await.map_err(Trouble::Away)?;
                Self::plan(Arc::new(store), settings, mappings, metrics).await
            }
            Err(StoreError::Refused(text)) => Err(Trouble::Faulty(Failure::fault("store.url", &text))),
            Err(error) => Err(Trouble::Away(error)),
        }
    }

    /// Makes the plans, within a time: a connection may fall silent for ever.
    async fn plan(
        store: Arc<Store>,
        settings: &config::Store,
        mappings: &Mappings,
        metrics: &Arc<MappingMetrics>,
    ) -> Result<Self, Trouble> {
        let most = settings.query_timeout * (1 + mappings.list.len() as u32);
        let planning = Self::plan_all(store, mappings, metrics);
        let planned = tokio::time::timeout(settings.connect_timeout + most, planning).await;
        planned.unwrap_or_else(|_| Err(Trouble::Away(silent())))
    }

    async fn plan_all(store: Arc<Store>, mappings: &Mappings, metrics: &Arc<MappingMetrics>) -> Result<Self, Trouble> {
        let (mut definitions, mut cached) = (Vec::new(), Vec::new());
        let (files, stored): (Vec<&Mapping>, _) = mappings.list.iter().partition(|m| m.config.file.is_some());
        for (mapping, path) in files.into_iter().filter_map(|mapping| Some((mapping, mapping.config.file.as_ref()?))) {
            definitions.push(from_file(mapping, path).map_err(Trouble::Faulty)?);
        }
        let planning: Vec<_> =
            stored.into_iter().map(|mapping| CurrentPlan::of(&store, mapping, metrics.clone())).collect();
        let mut planned = stream::iter(planning).buffered(AT_ONCE);
        while let Some(plan) = planned.next().await {
            let plan = plan.map_err(Trouble::Away)?;
            match plan.mapping().kind {
                Kind::Definition => definitions.push(DefinitionSource::planned(plan.mapping().clone(), plan)),
                Kind::Cache => cached.push(plan),
            }
        }
        drop(planned);
        Ok(Self { store, definitions, cached })
    }

    /// A cached mapping whose table is locked goes on with the plan that `old` has for it. Definitions would only wait
    /// for the lock: they keep their last good version.
    fn keep_plans(&self, old: &Owned) {
        for plan in &self.cached {
            let is_same = |other: &&CurrentPlan| other.mapping().config.is_same(&plan.mapping().config);
            if let Some(known) = old.cache.plans().find(is_same) {
                plan.keep(known);
            }
        }
    }

    /// What does not fit the schema of mappings that `old` does not have: a reload does not bring them.
    fn new_faults(&self, old: &Mappings) -> Vec<Fault> {
        let is_new = |mapping: &Mapping| !old.list.iter().any(|other| other.config.is_same(&mapping.config));
        let of_definitions = self.definitions.iter().filter_map(|source| source.plan.as_ref());
        let new = of_definitions.chain(&self.cached).filter(|plan| is_new(plan.mapping()));
        let faults = |plan: &CurrentPlan| {
            let path = plan.mapping().config.path.clone();
            plan.faults()
                .into_iter()
                .chain(plan.unsavable())
                .map(move |(key, message)| Fault { path: format!("{path}.{key}"), message })
        };
        new.flat_map(faults).collect()
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
        let built = ground.owned(self.store, self.definitions, self.cached, None);
        built.owned.plans().for_each(CurrentPlan::announce);
        built.owned.cache.remember_columns().await;
        if let Some(journal) = &ground.journal {
            replay(journal, waiting, &built.owned, away, &ground.metrics.panics).await?;
        }
        Ok(built)
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
    let opened = Journal::open(&settings.journal, metrics).await;
    let (journal, waiting) = opened.map_err(|error| Failure::Start(format!("journal.path: {error}")))?;
    metrics.write_behind.deferred_keys.set(journal.held() as i64);
    Ok((Some(Arc::new(journal)), waiting))
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
    let plan = || Parts::plan(old.store.clone(), &settings.store, &mappings, &metrics.mappings);
    let mut planned = plan().await;
    if matches!(&planned, Err(Trouble::Away(error)) if *error != silent()) {
        // Over connections that have ended since they were used: others are opened.
        old.store.retire_connections();
        planned = plan().await;
    }
    let parts = planned.map_err(|trouble| match trouble {
        Trouble::Away(error) => Failure::Start(format!("the store cannot be asked: {error}")),
        Trouble::Faulty(failure) => failure,
    })?;
    parts.keep_plans(old);
    let faults = parts.new_faults(&old.mappings);
    if !faults.is_empty() {
        return Err(Failure::Faults(faults));
    }
    let (journal, waiting) = match old.cache.journal() {
        Some(journal) => (Some(journal), Waiting::default()),
        None => journal(settings, &mappings, metrics).await?,
    };
    let (settings, quotas) = (settings.clone(), old.cache.quotas());
    let (metrics, settles) = (metrics.clone(), old.settles.clone());
    let (tracking, events) = (old.tracking.clone(), old.events.clone());
    let ground = Ground { settings, mappings, journal, quotas, metrics, settles, tracking, events };
    let built = parts.into_owned(&ground, waiting, None).await?;
    built.owned.reloader.load_next().await.map_err(|failed| Failure::Start(failed.join("; ")))?;
    Ok(built)
}

/// The configured upstream, or a private one; or the reason why there is none.
pub(super) async fn upstream(
    settings: &config::Upstream,
    panics: &Arc<PanicMetrics>,
) -> Result<(Option<PrivateServer>, Result<Topology, String>), Failure> {
    let parse =
        |settings: &config::Upstream| Topology::parse(settings).map_err(|text| Failure::fault("upstream.url", &text));
    if !settings.url.is_empty() {
        return Ok((None, Ok(parse(settings)?)));
    }
    match PrivateServer::start(Path::new(&settings.private_dir), panics.clone()).await {
        Ok(server) => {
            let topology = parse(&config::Upstream { url: server.url(), ..settings.clone() })?;
            Ok((Some(server), Ok(topology)))
        }
        Err(reason @ NoServer::NotInstalled) => {
            tracing::warn!(%reason, "owned keys are served; pass-through commands are answered with this error");
            Ok((None, Err(reason.to_string())))
        }
        Err(NoServer::Failed(reason)) => Err(Failure::Start(reason)),
    }
}
