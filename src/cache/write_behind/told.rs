//! What the log says of a flush: a line for all that the store refused, and now and then one for rows that were not there.

use std::collections::BTreeMap;

use crate::cache::{COMPLAIN_EVERY, Cache};
use crate::store::StoreError;
use crate::telemetry::Seldom;

/// What has not been said yet.
#[derive(Debug)]
pub(crate) struct Told {
    /// Keys that were put aside, and of the first its mapping and the reason.
    aside: Option<(u64, usize, StoreError)>,
    /// Keys whose rows were not there, by mapping.
    without_row: BTreeMap<usize, u64>,
    /// Log lines about those.
    complaints: Seldom,
}

impl Default for Told {
    fn default() -> Self {
        let complaints = Seldom::every(COMPLAIN_EVERY);
        Self { aside: None, without_row: BTreeMap::new(), complaints }
    }
}

impl Told {
    pub(crate) fn put_aside(&mut self, mapping: usize, error: &StoreError) {
        let (keys, ..) = self.aside.get_or_insert_with(|| (0, mapping, error.clone()));
        *keys += 1;
    }

    pub(crate) fn without_row(&mut self, mapping: usize, keys: u64) {
        *self.without_row.entry(mapping).or_default() += keys;
    }

    /// Says it.
    pub(crate) fn tell(&mut self, cache: &Cache) {
        let name = |mapping: usize| cache.cached(mapping).map_or("", |cached| cached.mapping.pattern.text());
        if let Some((keys, mapping, error)) = self.aside.take() {
            tracing::error!(
                keys,
                mapping = name(mapping),
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
                mapping = name(mapping),
                keys,
                "deferred writes to rows that are not there are dropped: they were taken while the store was away, or \
                 the rows were deleted after them"
            );
        }
    }
}
