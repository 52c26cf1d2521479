//! The keys of the last minute that were read most, missed most, forgotten most, and whose records were the longest to
//! send. Each thread counts its own reads, and of many only some, which count for the others.

mod passed;
mod sketch;
mod window;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub use passed::PassedReader;

use super::clock::Tick;
use super::locked;
use window::Window;

/// A thread counts about so many reads a second, at most, whatever it answers.
const BUDGET: u32 = 16_384;

/// One read of so many at least is counted.
const RAREST: u32 = 4096;

/// What is counted of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see above")]
pub enum TopKind {
    Reads,
    Misses,
    Invalidations,
    Bytes,
}

/// The hot keys of the process.
#[derive(Debug, Default)]
pub struct TopKeys {
    readers: Mutex<Vec<Arc<Mutex<Read>>>>,
    misses: Mutex<Window>,
    invalidations: Mutex<Window>,
    passed: Mutex<Window>,
}

/// What one thread has read.
#[derive(Debug, Default)]
struct Read {
    counts: Window,
    bytes: Window,
}

fn hash_of(key: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(key)
}

/// With what one thread counts.
#[derive(Debug, Default)]
pub struct TopReader {
    /// Reads until the next that is counted.
    left: u32,
    /// One of so many is counted, on average.
    every: u32,
    second: u64,
    taken: u32,
    read: Arc<Mutex<Read>>,
}

impl TopReader {
    /// A key is read, whose record is so long.
    #[inline]
    pub fn saw(&mut self, key: &[u8], bytes: usize, now: Tick) {
        match self.left {
            0 => self.count(key, bytes, now),
            left => self.left = left - 1,
        }
    }

    #[cold]
    fn count(&mut self, key: &[u8], bytes: usize, now: Tick) {
        let weight = u64::from(self.every.max(1));
        self.choose_next(now);
        // Nobody else holds it but who looks at the counts, for a moment: this read is not counted then.
        let Ok(mut read) = self.read.try_lock() else { return };
        let hash = hash_of(key);
        read.counts.add(hash, key, weight, now);
        read.bytes.add(hash, key, weight * bytes as u64, now);
    }

    /// As rarely as needs be: at random, so that what comes in turn is not met in turn.
    fn choose_next(&mut self, now: Tick) {
        let second = now.as_ms() / 1000;
        if second != self.second {
            if self.taken < BUDGET / 4 {
                self.every /= 2;
            }
            (self.second, self.taken) = (second, 0);
        }
        self.taken += 1;
        if self.taken >= BUDGET {
            self.every = (self.every.max(1) * 2).min(RAREST);
            self.taken = 0;
        }
        self.left = if self.every <= 1 { 0 } else { fastrand::u32(0..2 * self.every - 1) };
    }
}

impl TopKeys {
    /// What a thread counts its reads with.
    pub fn reader(&self) -> TopReader {
        let (reader, now) = (TopReader::default(), Tick::now());
        let mut readers = locked(&self.readers);
        readers.retain(|known| Arc::strong_count(known) > 1 || !locked(known).counts.is_over(now));
        readers.push(reader.read.clone());
        reader
    }

    /// A key was not in memory when it was read.
    pub fn missed(&self, key: &[u8], now: Tick) {
        locked(&self.misses).add(hash_of(key), key, 1, now);
    }

    /// Something in memory of a key was forgotten.
    pub fn forgot(&self, key: &[u8], now: Tick) {
        locked(&self.invalidations).add(hash_of(key), key, 1, now);
    }

    /// The first `most` keys of the last minute, with their counts.
    #[must_use]
    pub fn top(&self, kind: TopKind, most: usize) -> Vec<(Bytes, u64)> {
        let (mut sum, now) = (HashMap::new(), Tick::now());
        match kind {
            TopKind::Misses => locked(&self.misses).add_to(&mut sum, now),
            TopKind::Invalidations => locked(&self.invalidations).add_to(&mut sum, now),
            TopKind::Reads => self.each_reader(|read| read.counts.add_to(&mut sum, now)),
            TopKind::Bytes => self.each_reader(|read| read.bytes.add_to(&mut sum, now)),
        }
        let mut all: Vec<(Bytes, u64)> = sum.into_iter().filter(|(_, count)| *count > 0).collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        all.truncate(most);
        all
    }

    /// The first `most` of what passed through in the last minute: a command and the form of its key, and how often.
    #[must_use]
    pub fn passed(&self, most: usize) -> Vec<(String, u64)> {
        let mut sum = HashMap::new();
        locked(&self.passed).add_to(&mut sum, Tick::now());
        let text = |form: Bytes| String::from_utf8_lossy(&form).into_owned();
        let mut all: Vec<(String, u64)> = sum.into_iter().map(|(form, count)| (text(form), count)).collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        all.truncate(most);
        all
    }

    fn each_reader(&self, look: impl FnMut(&Read)) {
        let readers = locked(&self.readers).clone();
        readers.iter().map(|read| locked(read)).for_each({
            let mut look = look;
            move |read| look(&read)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{BUDGET, TopKeys, TopKind};
    use crate::telemetry::clock::Tick;

    /// Draws ranks by their weight 1/rank^s.
    struct Zipf(Vec<f64>);

    impl Zipf {
        fn new(keys: usize, s: f64) -> Self {
            let mut sum = 0.0;
            let add = |rank: usize| {
                sum += (rank as f64 + 1.0).powf(-s);
                sum
            };
            Self((0..keys).map(add).collect())
        }

        fn draw(&self, dice: &mut fastrand::Rng) -> usize {
            let at = dice.f64() * self.0.last().expect("keys");
            self.0.partition_point(|sum| *sum < at).min(self.0.len() - 1)
        }
    }

    /// Of the 20 keys that were really read most, the share that is told, and reads that were counted a second.
    fn recall(s: f64, seed: u64) -> (f64, u64) {
        let (top, zipf) = (TopKeys::default(), Zipf::new(20_000, s));
        let (mut readers, mut dice) = ([top.reader(), top.reader(), top.reader()], fastrand::Rng::with_seed(seed));
        let (mut counts, mut counted, begin) = (vec![0_u64; 20_000], 0, Tick::now());
        // Ten seconds of a thread that answers 50,000 reads a second, and of two that answer fewer.
        for i in 0..700_000_u64 {
            let rank = zipf.draw(&mut dice);
            counts[rank] += 1;
            let reader = &mut readers[if i % 7 < 5 { 0 } else { i as usize % 2 + 1 }];
            counted += u64::from(reader.left == 0);
            reader.saw(format!("key:{rank}").as_bytes(), 100, begin.plus(i / 70));
        }
        let mut ranks: Vec<usize> = (0..counts.len()).collect();
        ranks.sort_unstable_by_key(|rank| std::cmp::Reverse(counts[*rank]));
        let truly: HashSet<String> = ranks[..20].iter().map(|rank| format!("key:{rank}")).collect();
        let told = top.top(TopKind::Reads, 20);
        let found = told.iter().filter(|(key, _)| truly.contains(&*String::from_utf8_lossy(key))).count();
        let first = (told[0].1 as f64 / counts[ranks[0]] as f64 - 1.0).abs();
        assert!(first < 0.05, "the first is counted {} times of {}", told[0].1, counts[ranks[0]]);
        (found as f64 / 20.0, counted / 10)
    }

    #[test]
    fn the_first_twenty_of_a_zipf_load_are_told() {
        for s in [0.9, 1.0, 1.2] {
            let recalls: Vec<f64> = (1..=3).map(|seed| recall(s, seed).0).collect();
            let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
            assert!(mean >= 0.95, "s {s}: {recalls:?}");
        }
    }

    #[test]
    fn a_busy_thread_counts_only_so_many() {
        let (_, counted) = recall(1.0, 4);
        assert!(counted < 4 * u64::from(BUDGET), "{counted} a second of three threads");
    }

    #[test]
    fn what_comes_in_turn_is_not_met_in_turn() {
        let top = TopKeys::default();
        let (mut reader, now) = (top.reader(), Tick::now());
        for i in 0..2_000_000_u64 {
            reader.saw(format!("key:{}", i % 16).as_bytes(), 1, now);
        }
        let told = top.top(TopKind::Reads, 20);
        assert_eq!(told.len(), 16);
        assert!(told.iter().all(|(_, count)| (80_000..170_000).contains(count)), "{told:?}");
    }

    #[test]
    fn misses_invalidations_and_bytes_have_their_own_order() {
        let top = TopKeys::default();
        let (mut reader, now) = (top.reader(), Tick::now());
        for _ in 0..10 {
            reader.saw(b"small", 10, now);
        }
        reader.saw(b"long", 1000, now);
        top.missed(b"long", now);
        top.forgot(b"small", now);
        let first = |kind| top.top(kind, 1).first().map(|(key, count)| (key.to_vec(), *count));
        assert_eq!(first(TopKind::Reads), Some((b"small".to_vec(), 10)));
        assert_eq!(first(TopKind::Bytes), Some((b"long".to_vec(), 1000)));
        assert_eq!(first(TopKind::Misses), Some((b"long".to_vec(), 1)));
        assert_eq!(first(TopKind::Invalidations), Some((b"small".to_vec(), 1)));
        drop(reader);
        assert_eq!(first(TopKind::Reads), Some((b"small".to_vec(), 10)), "of a thread that has ended, too");
    }
}
