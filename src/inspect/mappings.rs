//! Each mapping: what it is, what of it is in memory, and what has happened to it.

use serde::Serialize;

use super::subject::Subject;
use super::times;
use crate::config::{MappingConfig, WriteMode};
use crate::mapping::{Kind, Mapping};
use crate::store::{CurrentPlan, StoreError};
use crate::telemetry::clock::millis;

/// One mapping. What is counted of cached keys alone is nothing for definitions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct MappingFacts {
    pub mapping: String,
    pub kind: &'static str,
    #[serde(rename = "type")]
    pub shape: &'static str,
    pub source: String,
    pub write: &'static str,
    pub ttl_ms: Option<u64>,
    pub mode: &'static str,
    pub percent: u8,
    pub state: String,
    /// Whether changes of its rows are told.
    pub is_told: Option<bool>,
    pub entries: u64,
    pub bytes: Option<u64>,
    pub hits: Option<u64>,
    pub absent_hits: Option<u64>,
    pub misses: Option<u64>,
    pub hit_ratio: Option<f64>,
    pub loads: Option<u64>,
    pub load_errors: Option<u64>,
    pub load_mean_ms: Option<f64>,
    pub invalidations: Option<u64>,
    pub evictions: Option<u64>,
    pub errors: u64,
    pub last_error: Option<String>,
    pub last_error_at: Option<String>,
    pub last_change_at: Option<String>,
}

/// Where its rows come from.
fn source(config: &MappingConfig) -> String {
    match (&config.table, &config.file) {
        (Some(table), _) => format!("table {table}"),
        (None, Some(file)) => format!("file {}", file.display()),
        (None, None) => "query".to_owned(),
    }
}

const fn write_name(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Reject => "reject",
        WriteMode::Through => "through",
        WriteMode::Deferred => "deferred",
        WriteMode::Fill => "fill",
    }
}

/// A number as it is read: three digits behind the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| rounded(part as f64 / whole as f64))
}

/// Whether it is served.
fn state(plan: &CurrentPlan) -> String {
    match plan.plan() {
        Ok(_) => "up".to_owned(),
        Err(StoreError::Faulty(why)) => format!("does not fit the store's schema: {why}"),
        Err(error) => error.to_string(),
    }
}

impl Subject {
    /// Every mapping, definitions first.
    #[must_use]
    pub fn mapping_facts(&self) -> Vec<MappingFacts> {
        self.mappings.list.iter().map(|mapping| self.facts_of(mapping)).collect()
    }

    /// Shows in the metrics what is looked at only when somebody asks: what of each mapping is in memory, and who is
    /// connected.
    pub fn show_in_metrics(&self) {
        let snapshot = self.definitions.snapshot();
        for mapping in &self.mappings.list {
            let counts = self.metrics.mappings.of(mapping.pattern.text());
            match mapping.kind {
                Kind::Definition => counts.holds(snapshot.count(mapping.id) as u64, 0),
                Kind::Cache => {
                    let room = self.cache.room_of(mapping.id);
                    counts.holds(room.entries, room.bytes);
                }
            }
        }
        let names = self.clients.names();
        self.metrics.clients.names.are(names);
        self.metrics.clients.subscribers.set(self.clients.census().subscribing as i64);
    }

    fn facts_of(&self, mapping: &Mapping) -> MappingFacts {
        let (config, name) = (&mapping.config, mapping.pattern.text());
        let counts = self.metrics.mappings.of(name);
        let (errors, last_error) = counts.failures();
        let setting = self.modes.setting(mapping.id);
        let facts = MappingFacts {
            mapping: name.to_owned(),
            kind: if mapping.kind == Kind::Definition { "definition" } else { "cached" },
            shape: config.shape.name(),
            source: source(config),
            write: write_name(config.write),
            ttl_ms: config.ttl.map(millis),
            mode: setting.mode.name(),
            percent: setting.percent,
            state: self
                .definitions
                .unloaded(mapping.id)
                .map_or_else(|| "up".to_owned(), |why| format!("not loaded: {why}")),
            is_told: None,
            entries: self.definitions.snapshot().count(mapping.id) as u64,
            bytes: None,
            hits: None,
            absent_hits: None,
            misses: None,
            hit_ratio: None,
            loads: None,
            load_errors: None,
            load_mean_ms: None,
            invalidations: None,
            evictions: None,
            errors,
            last_error_at: last_error.as_ref().map(|error| times::shown(error.at)),
            last_error: last_error.map(|error| error.text),
            last_change_at: counts.changed_at().map(times::shown),
        };
        if mapping.kind == Kind::Definition { facts } else { self.cached_facts(mapping, facts) }
    }

    /// The same of a mapping whose keys are cached.
    fn cached_facts(&self, mapping: &Mapping, facts: MappingFacts) -> MappingFacts {
        let name = mapping.pattern.text();
        let (counts, plan) = (self.metrics.mappings.of(name), self.cache.plan_of(mapping.id));
        let (hits, loads, room) = (counts.hits(), counts.loads(), self.cache.room_of(mapping.id));
        let (found, misses) = (hits.present + hits.absent, counts.misses());
        let all_loads = loads.ok + loads.absent + loads.failed;
        MappingFacts {
            state: plan.map_or_else(|| "waits for the store".to_owned(), state),
            is_told: plan.map(CurrentPlan::is_watched),
            entries: room.entries,
            bytes: Some(room.bytes),
            hits: Some(hits.present),
            absent_hits: Some(hits.absent),
            misses: Some(misses),
            hit_ratio: ratio(found, found + misses),
            loads: Some(all_loads),
            load_errors: Some(loads.failed),
            load_mean_ms: (all_loads > 0).then(|| rounded(loads.micros as f64 / 1000.0 / all_loads as f64)),
            invalidations: Some(counts.invalidations()),
            evictions: Some(counts.evictions()),
            ..facts
        }
    }
}
