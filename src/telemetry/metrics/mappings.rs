//! What is known of each mapping as a whole: whether the store's schema fits it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::MappingLabel;
use super::mapping_counts::MappingCounts;
use super::mapping_series::MappingSeries;
use super::register::Register;

/// Of all mappings that are in the store.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct MappingMetrics {
    up: Family<MappingLabel, Gauge>,
    defers: Family<MappingLabel, Gauge>,
    writable: Family<MappingLabel, Gauge>,
    pub schema_changes: Counter,
    /// What is counted of each, by its key pattern.
    counts: Mutex<BTreeMap<String, Arc<MappingCounts>>>,
    /// Those that are shown.
    series: Arc<MappingSeries>,
}

impl MappingMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        let series = Arc::<MappingSeries>::default();
        r.collector(Box::new(series.clone()));
        Self {
            series,
            up: r.family("mapping_up", "1 while the mapping fits the store's schema. Alarm on 0"),
            defers: r.family(
                "mapping_defers",
                "1 while deferred writes of the mapping are taken, of mappings that defer some: the store could save \
                 them, and the journal takes them. Alarm on 0",
            ),
            writable: r.family(
                "mapping_writable",
                "1 while the mapping fits the store's schema and the role of store.url has the rights to write it, of \
                 mappings that are written. Alarm on 0",
            ),
            schema_changes: r.counter(
                "schema_changes",
                "Times that a mapping got other statements, or none, because its schema had changed",
            ),
            counts: Mutex::default(),
        }
    }

    /// What is counted of a mapping, by its key pattern.
    pub fn of(&self, mapping: &str) -> Arc<MappingCounts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(mapping.to_owned()).or_default().clone()
    }

    /// Shows what is counted of a mapping, before anything was.
    pub fn show(&self, mapping: &str, is_cached: bool) {
        self.series.show(mapping, self.of(mapping), is_cached);
    }

    /// Shows no others than these any more, and names those that were shown.
    pub fn keep(&self, mappings: &[&str]) -> Vec<String> {
        self.series.keep(mappings)
    }

    /// Shows whether a mapping, by its key pattern, fits the schema.
    pub fn set_up(&self, mapping: &str, is_up: bool) {
        self.up.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).set(i64::from(is_up));
    }

    /// Shows whether deferred writes of a mapping, by its key pattern, are taken.
    pub fn set_defers(&self, mapping: &str, defers: bool) {
        self.defers.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).set(i64::from(defers));
    }

    /// Shows whether a mapping, by its key pattern, may be written.
    pub fn set_writable(&self, mapping: &str, is_writable: bool) {
        self.writable.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).set(i64::from(is_writable));
    }

    /// Shows none any more: a reload has brought others.
    pub fn forget(&self) {
        self.up.clear();
        self.defers.clear();
        self.writable.clear();
    }
}
