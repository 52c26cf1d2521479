//! Warm start: the keys that were read lately are noted in a file, every minute and at the end, and a start loads them
//! again at a bounded rate beside what clients ask for (docs/OPERATIONS.md, "Warm start"). Knows memory, and no client.

mod list;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;

use super::memory::Memory;
use super::source::Cached;
use crate::config;
use crate::keys::MappingId;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::metrics::CacheMetrics;
use list::{HotKeys, WarmList};

/// How often the keys are noted.
const EVERY: Duration = Duration::from_mins(1);

/// So many keys of a mapping are asked for at once: one statement of Postgres.
const AT_ONCE: usize = 256;

/// The pause after keys that could not be loaded.
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether the change feed is there, and how long that is waited for: what is loaded before is
/// forgotten when it comes.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

/// No more is loaded when memory is so full, in percent: it would push out what was loaded first, which is hotter.
const FULL: u64 = 90;

/// The file, and what is noted in it.
#[derive(Debug)]
pub(super) struct Warmth {
    memory: Arc<Memory>,
    path: PathBuf,
    /// Keys in a second.
    rate: u32,
    /// The most keys that are noted.
    most: usize,
    /// The most bytes in memory.
    room: u64,
    /// What the file holds has been loaded: it may be replaced.
    is_loaded: AtomicBool,
    metrics: Arc<CacheMetrics>,
}

impl Warmth {
    /// `None` where no file is configured.
    pub(super) fn new(settings: &config::Cache, memory: Arc<Memory>, metrics: Arc<CacheMetrics>) -> Option<Arc<Self>> {
        let path = Some(settings.warm.clone()).filter(|path| !path.as_os_str().is_empty())?;
        let (rate, most) = (settings.warm_rate.max(1), settings.warm_keys);
        let room = settings.max_bytes.0 as u64 / 100 * FULL;
        Some(Arc::new(Self { memory, path, rate, most, room, is_loaded: AtomicBool::new(false), metrics }))
    }

    /// Loads what was hot, and notes from then on what is, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        self.load().await;
        self.is_loaded.store(true, SeqCst);
        let mut ticker = tokio::time::interval(EVERY);
        ticker.tick().await;
        loop {
            ticker.tick().await;
            self.save().await;
        }
    }

    /// Notes which keys are hot. As long as those of before are not loaded yet, these stay in the file.
    pub(super) async fn save(self: &Arc<Self>) {
        if !self.is_loaded.load(SeqCst) {
            return;
        }
        let saving = self.clone();
        let saved = tokio::task::spawn_blocking(move || saving.hot().write(&saving.path)).await;
        if let Err(error) = saved.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(file = %self.path.display(), %error, "the hot keys cannot be noted (cache.warm)");
        }
    }

    /// The keys of records in memory that were read last, by mapping.
    fn hot(&self) -> WarmList {
        let mut hot = self.memory.used();
        hot.sort_unstable_by_key(|(used_at, ..)| std::cmp::Reverse(*used_at));
        hot.truncate(self.most);
        let mut keys: HashMap<MappingId, Vec<String>> = HashMap::new();
        for (_, id, key) in &hot {
            keys.entry(*id).or_default().extend(std::str::from_utf8(key).map(str::to_owned));
        }
        let of_mapping =
            |cached: &Cached| HotKeys::of(cached.block(), keys.remove(&cached.mapping().id).unwrap_or_default());
        WarmList::new(UnixMs::now(), self.memory.source.all().map(of_mapping).collect())
    }

    async fn load(&self) {
        let list = match WarmList::read(&self.path) {
            Ok(Some(list)) => list,
            Ok(None) => return,
            Err(error) => {
                return tracing::warn!(file = %self.path.display(), %error, "no warm start: its file is of no use");
            }
        };
        let portions = self.portions(&list);
        self.feed_is_there().await;
        let (begun, mut loaded) = (Instant::now(), 0);
        let mut ticker = tokio::time::interval(Duration::from_secs_f64(AT_ONCE as f64 / f64::from(self.rate)));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (mapping, keys) in &portions {
            ticker.tick().await;
            if self.memory.bytes() >= self.room {
                break;
            }
            loaded += self.load_portion(*mapping, keys).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!(loaded, seconds, "warm start: keys that were hot before are in memory");
    }

    /// Keys that are asked for at once, the hottest of each mapping first.
    fn portions(&self, list: &WarmList) -> Vec<(MappingId, Vec<Bytes>)> {
        let now = UnixMs::now();
        let mut portions = Vec::new();
        for cached in self.memory.source.all() {
            for (at, keys) in list.worth_loading(cached.block(), now).chunks(AT_ONCE).enumerate() {
                let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
                portions.push((at, (cached.mapping().id, keys)));
            }
        }
        portions.sort_by_key(|(at, _)| *at);
        portions.into_iter().map(|(_, portion)| portion).collect()
    }

    async fn feed_is_there(&self) {
        let begun = Instant::now();
        while !self.memory.feed.is_connected() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Loads some keys; how many were loaded.
    async fn load_portion(&self, mapping: MappingId, keys: &[Bytes]) -> usize {
        let loaded = join_all(keys.iter().map(|key| self.memory.load(mapping, key))).await;
        let count = loaded.iter().filter(|result| result.is_ok()).count();
        self.metrics.warmed.inc_by(count as u64);
        if count < keys.len() {
            // Whoever asks for the others gets them, or the reason why not.
            tokio::time::sleep(PAUSE).await;
        }
        count
    }
}
