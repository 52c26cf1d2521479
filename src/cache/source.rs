//! Where records come from: the cached mappings with their statements, and the store that runs these.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::cause::Cause;
use super::entry::Span;
use super::traces::KeyTraces;
use crate::config;
use crate::keys::MappingId;
use crate::mapping::{Mapping, Modes};
use crate::quota::{Allowance, Quota, Whose};
use crate::record::Record;
use crate::store::{CurrentPlan, Store, StoreError, Urgency};
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::{Moment, Tick, millis};
use crate::telemetry::metrics::{MappingCounts, MappingMetrics};
use crate::telemetry::traces::StorePart;
use crate::tracking::Tracking;

/// One cached mapping and its state.
#[derive(Debug)]
pub(super) struct Cached {
    /// Its plan, which is replaced when the schema has changed.
    pub(super) current: CurrentPlan,
    pub(super) life: Span,
    /// The mapping's key pattern, as the journal's entries have it.
    pub(super) text: Arc<str>,
    /// The epoch: raising it makes every key of the mapping in memory invalid at once.
    epoch: AtomicU64,
    /// Log lines about loads and writes that failed.
    complaints: LogThrottle,
    /// What is counted of the mapping.
    pub(super) counts: Arc<MappingCounts>,
    /// How many of its keys commands may load.
    pub(super) quota: Arc<Quota>,
    /// Why its keys were last forgotten.
    pub(super) traces: Arc<KeyTraces>,
    /// Who is told that they have changed.
    tracking: Arc<Tracking>,
    /// What clients keep of its keys may rest on it that every change is told: they must hear when that ends.
    pub(super) is_relied_on: AtomicBool,
}

/// How much longer than the store an answer of it is waited for.
const BACKSTOP: Duration = Duration::from_secs(3);

/// Failed loads of one mapping are logged this often at most, in milliseconds; the metric counts them all.
pub(super) const COMPLAIN_EVERY: u64 = 1000;

impl Cached {
    fn new(
        current: CurrentPlan,
        settings: &config::Cache,
        metrics: &MappingMetrics,
        traces: KeyTraces,
        tracking: Arc<Tracking>,
    ) -> Self {
        let life = Span::new(&current.mapping().config, settings);
        let text: Arc<str> = current.mapping().pattern.text().into();
        let (counts, complaints) = (metrics.of(&text), LogThrottle::every(COMPLAIN_EVERY));
        let allowance = Allowance::of_mapping(&current.mapping().config);
        let quota = Arc::new(Quota::new(Whose::Mapping, &text, allowance));
        let (epoch, traces, is_relied_on) = (AtomicU64::new(0), Arc::new(traces), AtomicBool::new(false));
        Self { current, life, text, epoch, complaints, counts, quota, traces, tracking, is_relied_on }
    }

    /// The same, of which some is taken already, if one of these is its quota.
    fn limited_by(mut self, quotas: &[Arc<Quota>]) -> Self {
        if let Some(quota) = quotas.iter().find(|quota| quota.name() == self.name()) {
            self.quota = quota.clone();
        }
        self
    }

    pub(crate) const fn mapping(&self) -> &Mapping {
        self.current.mapping()
    }

    pub(super) const fn block(&self) -> &config::MappingConfig {
        &self.mapping().config
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// What was loaded before is not served any more, for this reason. Who keeps some of it is told.
    pub(super) fn raise_epoch(&self, why: Cause) {
        self.pass_epoch(why);
        let pattern = &self.mapping().pattern;
        self.tracking.changed_where(pattern.begin(), |key| pattern.matches(key));
    }

    /// The same, and nobody is told of this mapping alone.
    pub(super) fn pass_epoch(&self, why: Cause) {
        self.epoch.fetch_add(1, SeqCst);
        tracing::debug!(mapping = self.name(), cause = why.name(), "everything in memory of a mapping is forgotten");
        self.counts.invalidated();
        self.traces.note_all(why);
    }

    /// The mapping's key pattern.
    pub(super) fn name(&self) -> &str {
        self.mapping().pattern.text()
    }

    /// True when a column of a key's row says when the key expires.
    pub(super) fn expires_by_column(&self) -> bool {
        self.block().expires_column.is_some()
    }

    /// Notes that something failed, and logs it now and then.
    pub(crate) fn complain(&self, what: &str, error: &StoreError) {
        self.counts.failed(&format!("{what}: {error}"));
        // Why the breaker is open, or what does not fit, is logged elsewhere.
        let is_known = matches!(error, StoreError::Open | StoreError::Faulty(_));
        if !is_known && self.complaints.due().is_some() {
            tracing::warn!(mapping = self.name(), %error, "{what}");
        }
    }
}

/// The cached mappings and their store.
#[derive(Debug)]
pub(super) struct Source {
    /// By mapping id; definitions have none.
    mappings: Vec<Option<Cached>>,
    pub(super) store: Arc<Store>,
    /// How long an answer of the store is waited for.
    pub(super) deadline: Duration,
    /// How often it is looked whether the schema has changed, in milliseconds.
    schema_interval: u64,
    /// Which of their keys are owned, for what nobody asks for.
    modes: ArcSwap<Modes>,
}

impl Source {
    pub(super) fn new(
        plans: Vec<CurrentPlan>,
        settings: &config::Settings,
        store: Arc<Store>,
        metrics: &MappingMetrics,
        quotas: &[Arc<Quota>],
        tracking: &Arc<Tracking>,
    ) -> Self {
        let (mut mappings, count) = (Vec::new(), plans.len());
        for plan in plans {
            let id = plan.mapping().id.index();
            mappings.resize_with(mappings.len().max(id + 1), || None);
            let cached = Cached::new(plan, &settings.cache, metrics, KeyTraces::among(count), tracking.clone());
            mappings[id] = Some(cached.limited_by(quotas));
        }
        let timeouts = &settings.store;
        // The store keeps the deadlines of its statements itself: this one is for what it cannot foresee.
        let deadline = timeouts.queue_timeout + timeouts.connect_timeout + timeouts.query_timeout + BACKSTOP;
        Self { mappings, store, deadline, schema_interval: millis(timeouts.schema_interval), modes: ArcSwap::default() }
    }

    pub(super) fn modes(&self) -> Arc<Modes> {
        self.modes.load_full()
    }

    pub(super) fn set_modes(&self, modes: Arc<Modes>) {
        self.modes.store(modes);
    }

    pub(super) fn cached(&self, id: MappingId) -> Option<&Cached> {
        self.mappings.get(id.index()).and_then(Option::as_ref)
    }

    /// The same of a mapping that must be there.
    pub(super) fn known(&self, id: MappingId) -> Result<&Cached, StoreError> {
        self.cached(id).ok_or_else(|| StoreError::Refused("no such cached mapping".into()))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Cached> {
        self.mappings.iter().flatten()
    }

    /// True while the store reports every change of the mapping's rows, and the schema watch has found its tables as
    /// they were planned not too long ago.
    pub(super) fn is_watched(&self, cached: &Cached, now: Tick) -> bool {
        let most = cached.life.max_staleness.saturating_add(self.schema_interval);
        cached.current.is_watched() && cached.current.has_fitted_within(most, now)
    }

    /// The record of a key as the store has it.
    pub(crate) async fn load(
        &self,
        cached: &Cached,
        key: &Bytes,
        urgency: &Arc<Urgency>,
    ) -> Result<Option<Record>, StoreError> {
        self.with_plan(cached, |plan| async move { self.store.load(&plan, key, urgency).await }).await
    }

    /// What is traced of what it has done for a key of this mapping, from then until now.
    pub(super) fn traced<'a>(&self, cached: &'a Cached, begun: Moment, error: Option<&StoreError>) -> StorePart<'a> {
        let (system, table) = (self.store.system(), cached.block().table.as_deref());
        StorePart { system, mapping: cached.name(), table, begun, error: error.map(StoreError::name) }
    }

    /// The next keys of a mapping, about `limit`, each with whether its row says that it has ended, and where to go on;
    /// `None` when there are no more.
    pub(super) async fn page(
        &self,
        id: MappingId,
        after: &After,
        limit: usize,
    ) -> Result<(Vec<(Bytes, bool)>, Option<After>), StoreError> {
        let Some(cached) = self.cached(id) else { return Ok((Vec::new(), None)) };
        let rows = self.with_plan(cached, |plan| async move { self.store.page(&plan, after, limit).await }).await?;
        // Of a key without a placeholder there is no other one.
        let next = rows.last().filter(|row| rows.len() >= limit && !row.texts.is_empty()).map(|row| row.texts.clone());
        let pattern = &cached.mapping().pattern;
        let keys = rows.iter().filter_map(|row| Some((Bytes::from(pattern.render(&row.texts)?), row.has_ended)));
        Ok((keys.collect(), next))
    }
}

/// Where a listing goes on: the key texts of the last row that was seen.
pub type After = Vec<String>;
