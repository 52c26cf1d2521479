//! Loads keys again that were read and have changed since, a moment after the change and many by one statement: their
//! next reader need not wait. What clients ask for goes first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc::Receiver;

use super::memory::Memory;
use super::memory::refreshes::{Forgotten, OfMapping};
use crate::keys::MappingId;
use crate::telemetry::metrics::CacheMetrics;

/// What loads them.
#[derive(Debug)]
pub(super) struct Refresher {
    forgotten: Vec<OfMapping>,
    loader: Loader,
}

/// How they are loaded.
#[derive(Debug)]
struct Loader {
    memory: Arc<Memory>,
    /// How long after a change.
    pause: Duration,
    metrics: Arc<CacheMetrics>,
}

impl Refresher {
    pub(super) const fn new(
        memory: Arc<Memory>,
        forgotten: Vec<OfMapping>,
        pause: Duration,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        Self { forgotten, loader: Loader { memory, pause, metrics } }
    }

    /// Loads them for ever, those of each mapping by themselves: one whose table does not answer holds up no other.
    pub(super) async fn run(&mut self) {
        let Self { forgotten, loader } = self;
        join_all(forgotten.iter_mut().map(|(mapping, forgotten)| loader.run_for(*mapping, forgotten))).await;
    }
}

impl Loader {
    async fn run_for(&self, mapping: MappingId, forgotten: &mut Receiver<Forgotten>) {
        while let Some(first) = forgotten.recv().await {
            tokio::time::sleep(self.pause).await;
            let mut keys = vec![first];
            while let Ok(another) = forgotten.try_recv() {
                keys.push(another);
            }
            self.load(mapping, keys).await;
        }
    }

    /// Those that nobody has loaded meanwhile, each once. What cannot be loaded is left to whoever asks for it.
    async fn load(&self, mapping: MappingId, mut keys: Vec<Forgotten>) {
        let mut seen: HashSet<Bytes> = HashSet::new();
        keys.retain(|(key, _)| self.memory.peek(key).is_none() && seen.insert(key.clone()));
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
