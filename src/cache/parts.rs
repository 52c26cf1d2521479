//! What a cache is made of, and how it is put together.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::Cache;
use super::memory::Memory;
use super::refresher::Refresher;
use super::source::Source;
use super::sweeper::Sweeper;
use super::tasks::Tasks;
use super::verifier::Verifier;
use super::warm::Warmth;
use super::write_behind::WriteBehind;
use super::write_behind::expiry::Renewals;
use super::writes::Writer;
use crate::config;
use crate::journal::Journal;
use crate::key_events::KeyEvents;
use crate::quota::Quota;
use crate::store::{self, CurrentPlan, Store};
use crate::telemetry::metrics::{CacheMetrics, MappingMetrics, WriteBehindMetrics};
use crate::tracking::Tracking;

/// What a cache is made of.
#[derive(Debug)]
pub struct Parts<'s> {
    /// The cached mappings and their plans.
    pub plans: Vec<CurrentPlan>,
    /// The configuration.
    pub settings: &'s config::Settings,
    /// The journal, if some of the mappings defer writes.
    pub journal: Option<Arc<Journal>>,
    /// Where the records are.
    pub store: Arc<Store>,
    /// Who keeps which keys, and is told when they change.
    pub tracking: Arc<Tracking>,
    /// Who is told what happens to keys.
    pub events: Arc<KeyEvents>,
    /// The limits of mappings that are served already, and what of them is taken.
    pub quotas: Vec<Arc<Quota>>,
    /// Where writes run.
    pub runtime: Handle,
    /// What is counted of each mapping.
    pub mappings: Arc<MappingMetrics>,
    /// What is counted of records in memory.
    pub metrics: Arc<CacheMetrics>,
    /// What is counted of deferred writes.
    pub deferred_metrics: Arc<WriteBehindMetrics>,
}

impl Cache {
    /// An empty cache, and what is to run beside it.
    #[must_use]
    pub fn new(parts: Parts<'_>) -> (Self, Tasks) {
        let Parts { plans, settings, journal, store, tracking, events, quotas, runtime, .. } = parts;
        let (mappings, metrics, deferred_metrics) = (parts.mappings, parts.metrics, parts.deferred_metrics);
        let (waiting, renewals) = Renewals::new();
        let source = Source::new(plans, settings, store, &mappings, &quotas, &tracking);
        let (memory, picked) = Memory::new(source, settings, metrics.clone(), (tracking, events));
        let memory = Arc::new(memory);
        // The notice of a longer flush would be one of the whole mapping, which nobody could tell from a stranger's.
        let rows = settings.journal.flush_rows.min(store::MOST_KEYS);
        let write_behind = Arc::new(WriteBehind::new(memory.clone(), journal, rows, waiting, deferred_metrics));
        let writer = Arc::new(Writer::new(memory.clone(), write_behind.clone(), runtime, metrics.clone()));
        let warmth = Warmth::new(&settings.cache, memory.clone(), metrics.clone());
        let tasks = Tasks {
            memory: memory.clone(),
            write_behind: write_behind.clone(),
            renewals,
            verifier: Verifier::new(memory.clone(), picked.samples, settings.verify.per_second, metrics.clone()),
            refresher: Refresher::new(memory.clone(), picked.forgotten, settings.cache.refresh, metrics.clone()),
            flush_interval: settings.journal.flush_interval,
            sweeper: Sweeper::new(&settings.store, memory.clone(), write_behind.clone(), metrics),
            warmth: warmth.clone(),
        };
        (Self { memory, write_behind, writer, warmth }, tasks)
    }
}
