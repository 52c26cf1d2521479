//! WATCH on cached keys: what a key held, and whether it has changed since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;

use crate::cache::source::{Cached, Source};
use crate::cache::writes::Writer;
use crate::keys::MappingId;
use crate::record::Record;
use crate::store::StoreError;

/// One watched key.
#[derive(Debug)]
pub struct Watched {
    pub(super) mapping: MappingId,
    pub(super) key: Bytes,
    touched: Arc<AtomicBool>,
    epoch: u64,
    record: Option<Record>,
    is_touched: bool,
}

impl Watched {
    /// Notes whether anything has happened to the key so far.
    pub(super) fn look(&mut self) {
        self.is_touched = self.touched.load(SeqCst);
    }

    /// True when a change came or was written here since it is watched, or the store now holds something else.
    pub(super) fn has_changed(&self, source: &Source, now: Option<&Record>) -> bool {
        self.is_touched
            || self.epoch != source.cached(self.mapping).map_or(0, Cached::epoch)
            || self.record.as_ref() != now
    }
}

impl Writer {
    /// Watches a key. It is loaded again: what the client reads from now on is at least as new as what is watched.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be loaded.
    pub(crate) async fn watch(&self, mapping: MappingId, key: &Bytes) -> Result<Watched, StoreError> {
        let epoch = self.memory.source.cached(mapping).map_or(0, Cached::epoch);
        self.memory.invalidate(key);
        let touched = self.memory.watch(key);
        let entry = self.memory.load(mapping, key).await?;
        Ok(Watched { mapping, key: key.clone(), touched, epoch, record: entry.record.clone(), is_touched: false })
    }
}
