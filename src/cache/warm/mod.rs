//! Warm start: the keys that were read lately are noted in a file, every minute and at the end, and a start loads them
//! again at a bounded rate beside what clients ask for (docs/OPERATIONS.md, "Warm start"). Knows memory, and no client.

mod left;
mod list;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::Use;
use super::memory::Memory;
use super::source::Cached;
use crate::config;
use crate::keys::MappingId;
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::metrics::CacheMetrics;
use left::{HotKey, Left};
use list::{HotKeys, WarmList, written_bytes};

/// How often the keys are noted.
const EVERY: Duration = Duration::from_mins(1);

/// The pause before keys that could not be loaded are asked for again: at first, and at most. After so long they are
/// given up.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);
const GIVEN_UP: Duration = Duration::from_hours(1);

/// How often it is looked whether the change feed is there, and how long that is waited for: what is loaded before is
/// forgotten when it comes.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

/// No more is loaded when memory is so full, in percent: it would push out what was loaded first, which is hotter.
const FULL: u64 = 90;

/// The most bytes of the keys of a file: so many for each key, and all together. Longer keys are not noted.
const LONGEST: u64 = 4096;
const MOST_BYTES: u64 = 255 << 20;

/// The most bytes of the file beside its keys.
const FRAME: u64 = 1 << 20;

/// The file, and what is noted in it.
#[derive(Debug)]
pub(super) struct Warmth {
    memory: Arc<Memory>,
    path: PathBuf,
    /// Keys in a second.
    rate: u32,
    /// The most keys that are noted, and the most bytes of them.
    most: usize,
    most_bytes: u64,
    /// The most bytes in memory.
    room: u64,
    /// What the file held and is not in memory yet.
    left: Mutex<HashMap<MappingId, Left>>,
    /// All that the file holds was asked for: it may be replaced.
    is_loaded: AtomicBool,
    /// Held while the file is written: a stop may come meanwhile, which writes it too.
    writing: Mutex<()>,
    metrics: Arc<CacheMetrics>,
}

impl Warmth {
    /// `None` where no file is configured.
    pub(super) fn new(settings: &config::Cache, memory: Arc<Memory>, metrics: Arc<CacheMetrics>) -> Option<Arc<Self>> {
        let path = Some(settings.warm.clone()).filter(|path| !path.as_os_str().is_empty())?;
        let (rate, most) = (settings.warm_rate.max(1), settings.warm_keys);
        let most_bytes = (most as u64).saturating_mul(LONGEST).min(MOST_BYTES);
        let room = settings.max_bytes.0 as u64 / 100 * FULL;
        let (left, is_loaded, writing) = (Mutex::default(), AtomicBool::new(false), Mutex::default());
        Some(Arc::new(Self { memory, path, rate, most, most_bytes, room, left, is_loaded, writing, metrics }))
    }

    fn left(&self) -> MutexGuard<'_, HashMap<MappingId, Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads what was hot, and notes what is, for ever.
    pub(super) async fn run(self: &Arc<Self>) {
        tokio::join!(self.load(), self.save_for_ever());
    }

    async fn save_for_ever(self: &Arc<Self>) {
        let mut ticker = tokio::time::interval(EVERY);
        ticker.tick().await;
        loop {
            ticker.tick().await;
            self.save().await;
        }
    }

    /// Notes which keys are hot. As long as those of before have not been asked for, these stay in the file.
    pub(super) async fn save(self: &Arc<Self>) {
        if !self.is_loaded.load(SeqCst) {
            return;
        }
        let saving = self.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let _alone = saving.writing.lock().unwrap_or_else(PoisonError::into_inner);
            saving.hot().write(&saving.path)
        });
        let saved = saved.await;
        if let Err(error) = saved.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(file = %self.path.display(), %error, "the hot keys cannot be noted (cache.warm)");
        }
    }

    /// The keys of records in memory that were read last, by mapping, and those that are still to be loaded.
    fn hot(&self) -> WarmList {
        let mut hot = self.memory.used();
        for (id, left) in &*self.left() {
            hot.extend(left.keys().map(|(key, used_at)| (*used_at, *id, key.clone())));
        }
        hot.sort_unstable_by_key(|(used_at, ..)| std::cmp::Reverse(*used_at));
        let mut keys: HashMap<MappingId, Vec<String>> = HashMap::new();
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for (_, id, key) in &hot {
            let Some(text) = std::str::from_utf8(key).ok().filter(|text| text.len() as u64 <= LONGEST) else {
                continue;
            };
            bytes += written_bytes(text);
            if seen.len() >= self.most || bytes > self.most_bytes {
                break;
            }
            if seen.insert(key) {
                keys.entry(*id).or_default().push(text.to_owned());
            }
        }
        let of_mapping =
            |cached: &Cached| HotKeys::of(cached.block(), keys.remove(&cached.mapping().id).unwrap_or_default());
        WarmList::new(UnixMs::now(), self.memory.source.all().map(of_mapping).collect())
    }

    /// Loads what was hot: what cannot be loaded now, later.
    async fn load(self: &Arc<Self>) {
        if !self.is_loaded.load(SeqCst) {
            *self.left() = self.read().await;
        }
        if self.count_left() == 0 {
            return self.is_loaded.store(true, SeqCst);
        }
        let (begun, mut loaded, mut pause) = (Instant::now(), 0, None);
        let throttle = LogThrottle::default();
        loop {
            self.feed_is_there().await;
            let now_loaded = self.round().await;
            loaded += now_loaded;
            self.is_loaded.store(true, SeqCst);
            let left = self.count_left();
            if left == 0 || begun.elapsed() >= GIVEN_UP {
                break;
            }
            if throttle.due().is_some() {
                let text = "warm start: keys that were hot before cannot be loaded yet; they are tried again";
                tracing::warn!(left, loaded, "{text}");
            }
            let next = next_pause(pause.filter(|_| now_loaded == 0));
            pause = Some(next);
            tokio::time::sleep(next).await;
        }
        let (left, seconds) = (self.count_left(), begun.elapsed().as_secs_f64());
        self.left().clear();
        tracing::info!(loaded, left, seconds, "warm start: keys that were hot before are in memory");
    }

    /// What the file holds that is worth loading.
    async fn read(self: &Arc<Self>) -> HashMap<MappingId, Left> {
        let reading = self.clone();
        let most = self.most_bytes + FRAME;
        let read = tokio::task::spawn_blocking(move || WarmList::read(&reading.path, most)).await;
        let list = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(list) => list.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "no warm start: its file is of no use");
                return HashMap::new();
            }
        };
        let now = UnixMs::now();
        let of_mapping = |cached: &Cached| {
            let keys = list.worth_loading(cached.block(), now).iter().take(self.most);
            let hot = |(place, key): (usize, &String)| (Bytes::copy_from_slice(key.as_bytes()), Use::before(place));
            (cached.mapping().id, Left::new(keys.enumerate().map(hot)))
        };
        self.memory.source.all().map(of_mapping).collect()
    }

    async fn feed_is_there(&self) {
        let begun = Instant::now();
        while !self.memory.feed.is_connected() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks once for every key that is left, the hottest of each mapping first; how many were loaded. The keys of a
    /// mapping whose store or table does not answer wait for the next round.
    async fn round(&self) -> usize {
        self.look_at_epochs();
        let mut loaded = 0;
        let mut turns: VecDeque<MappingId> = self.left().keys().copied().collect();
        while let Some(mapping) = turns.pop_front() {
            if self.memory.bytes() >= self.room {
                self.left().clear();
            }
            let modes = self.memory.source.modes();
            if let Some(left) = self.left().get_mut(&mapping) {
                left.only(|key| modes.owns(mapping, key));
            }
            let most = self.memory.together(mapping);
            let keys = self.left().get(&mapping).map(|left| left.next(most)).unwrap_or_default();
            if keys.is_empty() {
                continue;
            }
            let began = Instant::now();
            let (count, goes_on) = self.load_together(mapping, &keys).await;
            loaded += count;
            turns.extend(Some(mapping).filter(|_| goes_on));
            let pace = Duration::from_secs_f64(keys.len() as f64 / f64::from(self.rate));
            tokio::time::sleep(pace.saturating_sub(began.elapsed())).await;
        }
        self.look_at_epochs();
        self.left().values_mut().for_each(Left::round_is_over);
        loaded
    }

    /// Where a mapping was forgotten, what was loaded of it is to be loaded again.
    fn look_at_epochs(&self) {
        for (id, left) in &mut *self.left() {
            left.is_in(self.memory.source.cached(*id).map_or(0, Cached::epoch));
        }
    }

    /// How many keys are not loaded.
    fn count_left(&self) -> usize {
        self.left().values().map(|left| left.keys().count()).sum()
    }

    /// Loads some keys; how many were loaded, and whether the mapping's others are to be asked for.
    async fn load_together(&self, mapping: MappingId, keys: &[HotKey]) -> (usize, bool) {
        let results = self.memory.load_in_background(mapping, keys).await;
        let count = results.iter().filter(|result| result.is_ok()).count();
        self.metrics.warmed.inc_by(count as u64);
        let goes_on = self.left().get_mut(&mapping).is_some_and(|left| left.asked(&results));
        (count, goes_on)
    }
}

/// The pause after one that has not helped; after none: the first.
fn next_pause(last: Option<Duration>) -> Duration {
    last.map_or(FIRST_PAUSE, |last| (last * 2).min(LAST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::next_pause;

    #[test]
    fn pauses_grow_from_a_second_to_a_minute() {
        let pauses = std::iter::successors(Some(next_pause(None)), |last| Some(next_pause(Some(*last))));
        assert_eq!(pauses.take(8).map(|pause| pause.as_secs()).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
