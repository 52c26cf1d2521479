//! The log lines of flushes: one for everything that the store refused, and now and then one for rows that do not
//! exist.

use std::collections::BTreeMap;

use crate::cache::source::COMPLAIN_EVERY;
use crate::store::StoreError;
use crate::telemetry::LogThrottle;

/// What has not been logged yet.
#[derive(Debug)]
pub(super) struct FlushLog {
    aside: Option<Aside>,
    /// Keys whose rows were not there, by mapping.
    without_row: BTreeMap<String, u64>,
    /// Log lines about those.
    complaints: LogThrottle,
}

/// Keys that were put aside.
#[derive(Debug)]
struct Aside {
    keys: u64,
    /// The mapping of the first.
    mapping: String,
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
    pub(super) fn put_aside(&mut self, mapping: &str, error: &StoreError) {
        let first = || Aside { keys: 0, mapping: mapping.to_owned(), error: error.clone() };
        self.aside.get_or_insert_with(first).keys += 1;
    }

    pub(super) fn without_row(&mut self, mapping: &str, keys: u64) {
        *self.without_row.entry(mapping.to_owned()).or_default() += keys;
    }

    /// Logs it.
    pub(super) fn write(&mut self) {
        if let Some(Aside { keys, mapping, error }) = self.aside.take() {
            tracing::error!(
                keys,
                mapping,
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
                mapping,
                keys,
                "deferred writes to rows that are not there are dropped: they were taken while the store was away, or \
                 the rows were deleted after them"
            );
        }
    }
}
