//! Loads keys again that were read and have changed since, a moment after the change and many by one statement: their
//! next reader need not wait. What clients ask for goes first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::entry::Use;
use super::memory::Memory;
use super::memory::refreshes::Forgotten;
use crate::keys::MappingId;
use crate::telemetry::metrics::CacheMetrics;

/// What loads them.
#[derive(Debug)]
pub(super) struct Refresher {
    memory: Arc<Memory>,
    forgotten: mpsc::Receiver<Forgotten>,
    /// How long after a change.
    pause: Duration,
    metrics: Arc<CacheMetrics>,
}

impl Refresher {
    pub(super) const fn new(
        memory: Arc<Memory>,
        forgotten: mpsc::Receiver<Forgotten>,
        pause: Duration,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        Self { memory, forgotten, pause, metrics }
    }

    /// Loads them for ever.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.forgotten.recv().await {
            tokio::time::sleep(self.pause).await;
            let mut forgotten = vec![first];
            while let Ok(another) = self.forgotten.try_recv() {
                forgotten.push(another);
            }
            // One whose store or table does not answer holds up no other.
            join_all(by_mapping(forgotten).into_iter().map(|(mapping, keys)| self.load(mapping, keys))).await;
        }
    }

    /// Those that nobody has loaded meanwhile. What cannot be loaded is left to whoever asks for it.
    async fn load(&self, mapping: MappingId, mut keys: Vec<(Bytes, Use)>) {
        keys.retain(|(key, _)| self.memory.peek(key).is_none());
        while !keys.is_empty() {
            let later = keys.split_off(keys.len().min(self.memory.together(mapping)));
            let loaded = self.memory.load_in_background(mapping, &keys).await;
            keys = later;
            let count = loaded.iter().filter(|result| result.is_ok()).count();
            self.metrics.refreshed.inc_by(count as u64);
            if count == 0 {
                return;
            }
        }
    }
}

/// The keys of each mapping, each once.
fn by_mapping(forgotten: Vec<Forgotten>) -> HashMap<MappingId, Vec<(Bytes, Use)>> {
    let (mut seen, mut keys) = (HashSet::new(), HashMap::<MappingId, Vec<_>>::new());
    for (mapping, key, used_at) in forgotten {
        if seen.insert(key.clone()) {
            keys.entry(mapping).or_default().push((key, used_at));
        }
    }
    keys
}
