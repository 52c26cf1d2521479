//! Which deferred writes are traced, until the flush that saves them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::telemetry::traces::TraceReference;

/// More are not noted: the flush does not name them.
const MOST: usize = 1024;

/// Those of one cache.
#[derive(Debug, Default)]
pub(in crate::cache) struct TracedWrites(Mutex<HashMap<Bytes, TraceReference>>);

impl TracedWrites {
    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, TraceReference>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last write of this key is traced.
    pub(in crate::cache) fn note(&self, key: &Bytes, write: TraceReference) {
        let mut writes = self.lock();
        if writes.len() < MOST {
            writes.insert(key.clone(), write);
        }
    }

    /// Those of these keys, which a statement was to save. Where it has not they are kept for the next one.
    pub(super) fn of<'k>(&self, keys: impl Iterator<Item = &'k Bytes>, is_saved: bool) -> Vec<TraceReference> {
        let mut writes = self.lock();
        match () {
            () if writes.is_empty() => Vec::new(),
            () if is_saved => keys.filter_map(|key| writes.remove(key)).collect(),
            () => keys.filter_map(|key| writes.get(key).copied()).collect(),
        }
    }
}
