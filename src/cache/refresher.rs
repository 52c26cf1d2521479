//! Loads keys again that were read and have changed since, a moment after the change and many by one statement: their
//! next reader need not wait. Each load is an ordinary one, as if a reader had asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::memory::Memory;
use super::memory::refreshes::Forgotten;
use crate::keys::MappingId;
use crate::telemetry::metrics::CacheMetrics;

/// So many keys of a mapping are asked for at once: one statement of Postgres.
const AT_ONCE: usize = 256;

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
            for (mapping, keys) in by_mapping(forgotten) {
                self.load(mapping, &keys).await;
            }
        }
    }

    /// Those that nobody has loaded meanwhile. What cannot be loaded is left to whoever asks for it.
    async fn load(&self, mapping: MappingId, keys: &[Bytes]) {
        let absent: Vec<&Bytes> = keys.iter().filter(|key| self.memory.peek(key).is_none()).collect();
        for keys in absent.chunks(AT_ONCE) {
            let loaded = join_all(keys.iter().map(|key| self.memory.load(mapping, key))).await;
            let count = loaded.iter().filter(|result| result.is_ok()).count();
            self.metrics.refreshed.inc_by(count as u64);
            if count == 0 {
                return;
            }
        }
    }
}

/// The keys of each mapping, each once.
fn by_mapping(forgotten: Vec<Forgotten>) -> HashMap<MappingId, Vec<Bytes>> {
    let (mut seen, mut keys) = (HashSet::new(), HashMap::<MappingId, Vec<Bytes>>::new());
    for (mapping, key) in forgotten {
        if seen.insert(key.clone()) {
            keys.entry(mapping).or_default().push(key);
        }
    }
    keys
}
