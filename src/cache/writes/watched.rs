//! WATCH on cached keys: what a key held, and whether anything happened to it since.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::cache::{Cache, Cached};
use crate::record::Record;
use crate::store::StoreError;

/// One watched key.
#[derive(Debug)]
pub struct Watched {
    pub(crate) mapping: usize,
    pub(crate) key: Bytes,
    touched: Arc<AtomicBool>,
    epoch: u64,
    record: Option<Record>,
    is_touched: bool,
}

impl Watched {
    /// Notes whether anything has happened to the key so far.
    pub(crate) fn look(&mut self) {
        self.is_touched = self.touched.load(SeqCst);
    }

    /// True when a change was told or written here since it is watched, or the store now holds something else.
    pub(crate) fn has_changed(&self, cache: &Cache, now: Option<&Record>) -> bool {
        self.is_touched
            || self.epoch != cache.cached(self.mapping).map_or(0, Cached::epoch)
            || self.record.as_ref() != now
    }
}

/// Those who watch one key; a watch that ended is forgotten by and by.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Weak<AtomicBool>>);

impl Watchers {
    pub(crate) fn add(&mut self) -> Arc<AtomicBool> {
        self.0.retain(|watcher| watcher.strong_count() > 0);
        let touched = Arc::new(AtomicBool::new(false));
        self.0.push(Arc::downgrade(&touched));
        touched
    }

    /// Something happens to the key.
    pub(crate) fn touch(&mut self) {
        self.0.drain(..).filter_map(|watcher| watcher.upgrade()).for_each(|touched| touched.store(true, SeqCst));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|watcher| watcher.strong_count() == 0)
    }
}

impl Cache {
    /// Watches a key. It is loaded anew: what the client reads from now on is at least as new as what is watched.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be loaded.
    pub async fn watch(self: &Arc<Self>, mapping: usize, key: &Bytes) -> Result<Watched, StoreError> {
        let epoch = self.cached(mapping).map_or(0, Cached::epoch);
        self.invalidate(key);
        let touched = self.flights.watch(key);
        let entry = self.load(mapping, key).await?;
        Ok(Watched { mapping, key: key.clone(), touched, epoch, record: entry.record.clone(), is_touched: false })
    }
}
