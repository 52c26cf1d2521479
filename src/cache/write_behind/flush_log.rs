//! The log lines of flushes: one for everything that the store refused, and now and then one for rows that do not
//! exist.

use std::collections::BTreeMap;

use crate::cache::source::{COMPLAIN_EVERY, Source};
use crate::keys::MappingId;
use crate::store::StoreError;
use crate::telemetry::LogThrottle;

/// What has not been logged yet.
#[derive(Debug)]
pub(super) struct FlushLog {
    aside: Option<Aside>,
    /// Keys whose rows were not there, by mapping.
    without_row: BTreeMap<MappingId, u64>,
    /// Log lines about those.
    complaints: LogThrottle,
}

/// Keys that were put aside.
#[derive(Debug)]
struct Aside {
    keys: u64,
    /// The mapping of the first.
    mapping: MappingId,
    /// Why the store refused the first.
    error: StoreError,
}

impl Default for FlushLog {
    fn default() -> Self {
        let complaints = LogThrottle::every(COMPLAIN_EVERY);
        Self { aside: None, without_row: BTreeMap::new(), complaints }
    }
}

impl FlushLog {
    pub(super) fn put_aside(&mut self, mapping: MappingId, error: &StoreError) {
        self.aside.get_or_insert_with(|| Aside { keys: 0, mapping, error: error.clone() }).keys += 1;
    }

    pub(super) fn without_row(&mut self, mapping: MappingId, keys: u64) {
        *self.without_row.entry(mapping).or_default() += keys;
    }

    /// Logs it; `source` knows the mappings' names.
    pub(super) fn write(&mut self, source: &Source) {
        if let Some(Aside { keys, mapping, error }) = self.aside.take() {
            tracing::error!(
                keys,
                mapping = source.name(mapping),
                %error,
                "what the store refuses of deferred writes is put aside (mapping and reason are those of the first \
                 key); `hearthside journal` shows it, and sends it again or removes it while no sidecar runs"
            );
        }
        if self.without_row.is_empty() || self.complaints.due().is_none() {
            return;
        }
        for (mapping, keys) in std::mem::take(&mut self.without_row) {
            tracing::warn!(
                mapping = source.name(mapping),
                keys,
                "deferred writes to rows that are not there are dropped: they were taken while the store was away, or \
                 the rows were deleted after them"
            );
        }
    }
}
