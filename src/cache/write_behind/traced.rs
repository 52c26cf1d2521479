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

    /// Those of these keys.
    pub(super) fn take<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) -> Vec<TraceReference> {
        let mut writes = self.lock();
        if writes.is_empty() { Vec::new() } else { keys.filter_map(|key| writes.remove(key)).collect() }
    }
}
