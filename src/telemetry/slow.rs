//! The last commands, loads and writes that were slow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::clock::UnixMs;
use crate::config::Slowlog;

/// A longer key is known by its beginning.
const LONGEST: usize = 256;

/// What was slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub enum SlowKind {
    Command,
    Load,
    Write,
    Flush,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as CLIENT LIST has them")]
pub struct Asked {
    pub command: String,
    pub client: u64,
    pub address: String,
    pub name: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// What it was.
    pub kind: SlowKind,
    /// How long it took.
    pub time: Duration,
    /// Who asked for it; nobody alone for a load, which all that wait for it share.
    pub asked: Option<Asked>,
    /// The pattern of its mapping.
    pub mapping: String,
    /// Its key.
    pub key: Bytes,
    /// What the time went into.
    pub cause: String,
}

/// The same, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// They are counted from the beginning of the process.
    pub id: u64,
    /// When it ended.
    pub at: UnixMs,
    /// What was slow.
    pub slow: Slow,
}

/// The last of them, and what is slow enough.
#[derive(Debug)]
pub struct SlowLog {
    /// In microseconds; [`u64::MAX`]: never.
    commands: AtomicU64,
    store: AtomicU64,
    most: AtomicUsize,
    next: AtomicU64,
    entries: Mutex<VecDeque<SlowEntry>>,
}

impl Default for SlowLog {
    fn default() -> Self {
        let log = Self {
            commands: AtomicU64::new(u64::MAX),
            store: AtomicU64::new(u64::MAX),
            most: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            entries: Mutex::default(),
        };
        log.configure(&Slowlog::default());
        log
    }
}

fn micros(threshold: Duration) -> u64 {
    if threshold.is_zero() { u64::MAX } else { threshold.as_micros() as u64 }
}

impl SlowLog {
    /// From now on that is slow enough.
    pub fn configure(&self, settings: &Slowlog) {
        self.commands.store(micros(settings.commands), Relaxed);
        self.store.store(micros(settings.store), Relaxed);
        self.most.store(settings.entries, Relaxed);
        self.lock().truncate(settings.entries);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SlowEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when commands are measured.
    #[must_use]
    pub fn measures_commands(&self) -> bool {
        self.commands.load(Relaxed) != u64::MAX && self.most.load(Relaxed) > 0
    }

    /// True when something of this kind that took so long is to be remembered.
    #[must_use]
    pub fn takes(&self, kind: SlowKind, time: Duration) -> bool {
        let threshold = if kind == SlowKind::Command { &self.commands } else { &self.store };
        time.as_micros() as u64 >= threshold.load(Relaxed)
    }

    /// Remembers one.
    pub fn add(&self, slow: Slow) {
        let most = self.most.load(Relaxed);
        let key = slow.key.slice(..slow.key.len().min(LONGEST));
        // A copy, so that what the key was a part of does not stay in memory.
        let slow = Slow { key: Bytes::copy_from_slice(&key), ..slow };
        let mut entries = self.lock();
        entries.push_front(SlowEntry { id: self.next.fetch_add(1, Relaxed), at: UnixMs::now(), slow });
        entries.truncate(most);
    }

    /// The last `most`, the newest first.
    #[must_use]
    pub fn last(&self, most: usize) -> Vec<SlowEntry> {
        self.lock().iter().take(most).cloned().collect()
    }

    /// Forgets all of them.
    pub fn reset(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Slow, SlowKind, SlowLog};
    use crate::config::Slowlog;

    #[test]
    fn the_last_are_remembered_and_zero_means_never() {
        let log = SlowLog::default();
        let of =
            |commands, entries| Slowlog { commands: Duration::from_millis(commands), entries, ..Slowlog::default() };
        log.configure(&of(10, 3));
        assert!(log.takes(SlowKind::Command, Duration::from_millis(10)));
        assert!(
            !log.takes(SlowKind::Command, Duration::from_millis(9))
                && !log.takes(SlowKind::Load, Duration::from_millis(99))
        );
        for i in 0..5 {
            let (mapping, cause) = (format!("m{i}"), String::new());
            let key = vec![b'k'; 10_000].into();
            log.add(Slow { kind: SlowKind::Load, time: Duration::from_secs(1), asked: None, mapping, key, cause });
        }
        let ids = |log: &SlowLog| log.last(9).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!((ids(&log), log.last(1)[0].slow.key.len()), (vec![4, 3, 2], 256));
        log.configure(&of(0, 1));
        assert_eq!(ids(&log), [4]);
        assert!(!log.measures_commands() && !log.takes(SlowKind::Command, Duration::from_hours(1)));
        log.reset();
        assert!(log.last(9).is_empty());
    }
}
