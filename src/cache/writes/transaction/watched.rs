//! WATCH on cached keys: what a key held, and whether it has changed since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;

use crate::cache::source::{Cached, Source};
use crate::cache::writes::Writer;
use crate::keys::MappingId;
use crate::quota::Asker;
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
}

/// A key that is written while it is loaded is looked at again, so often.
const LOOKS: usize = 3;

impl Watched {
    /// True when a change came or was written here since it is watched, or the store now holds something else. The
    /// writes of the transaction that asks have not ended, so that they do not count.
    pub(super) fn has_changed(&self, source: &Source, now: Option<&Record>) -> bool {
        self.touched.load(SeqCst)
            || self.epoch != source.cached(self.mapping).map_or(0, Cached::epoch)
            || self.record.as_ref() != now
    }
}

impl Writer {
    /// Watches a key. It is loaded again: what the client reads from now on is at least as new as what is watched.
    /// Those who watch it at the same time share one load; for them nothing has happened.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be loaded.
    pub(crate) async fn watch(
        &self,
        mapping: MappingId,
        key: &Bytes,
        asker: &mut Asker,
    ) -> Result<Watched, StoreError> {
        self.memory.let_go(mapping, key);
        let mut watched = self.look(mapping, key, asker).await?;
        for _ in 1..LOOKS {
            // A write that the load waited for has ended: it comes before what is watched.
            if watched.touched.load(SeqCst) {
                watched = self.look(mapping, key, asker).await?;
            }
        }
        Ok(watched)
    }

    /// The key as it is, and whether anything happens to it from before that on.
    async fn look(&self, mapping: MappingId, key: &Bytes, asker: &mut Asker) -> Result<Watched, StoreError> {
        let epoch = self.memory.source.cached(mapping).map_or(0, Cached::epoch);
        let touched = self.memory.watch(key);
        let entry = self.memory.load(mapping, key, asker).await?;
        Ok(Watched { mapping, key: key.clone(), touched, epoch, record: entry.record.clone() })
    }
}
