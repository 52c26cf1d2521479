//! The clients that track, and how each of them is told.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::Prefix;
use super::readers::{EVERYBODY, NOBODY};
use crate::keys::begin_alike;

/// How a client that tracks is told.
pub trait Ear: fmt::Debug + Send + Sync {
    /// This key has changed, which it has read.
    fn hears(&self, key: &Bytes);
    /// This key has changed, which begins with a prefix of the client's.
    fn hears_of(&self, prefix: &Bytes, key: &Bytes);
    /// Any key may have changed.
    fn hears_all(&self);
}

/// How a client tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Its id, by which it is known who has changed a key.
    pub client: u64,
    /// It is not told of what it has changed itself (NOLOOP).
    pub is_own_untold: bool,
    /// It hears of every key that begins so (BCAST), and not of what it has read.
    pub prefixes: Option<Vec<Prefix>>,
}

#[derive(Debug)]
struct Listener {
    ear: Arc<dyn Ear>,
    manner: Manner,
}

impl Listener {
    fn is_untold(&self, by: Option<u64>) -> bool {
        self.manner.is_own_untold && by == Some(self.manner.client)
    }
}

#[derive(Debug, Default)]
struct All {
    listeners: HashMap<u32, Listener>,
    /// The prefixes of those who hear of keys by them.
    prefixes: BTreeMap<Prefix, Vec<u32>>,
}

#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: RwLock<All>,
    /// How many hear of keys by prefixes.
    broadcasting: AtomicUsize,
}

impl All {
    fn join(&mut self, number: u32, manner: &Manner) {
        for prefix in manner.prefixes.iter().flatten() {
            self.prefixes.entry(prefix.clone()).or_default().push(number);
        }
    }

    fn part(&mut self, number: u32) {
        self.prefixes.retain(|_, numbers| {
            numbers.retain(|other| *other != number);
            !numbers.is_empty()
        });
    }
}

impl Listeners {
    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts those who hear of keys by prefixes.
    fn count(&self, all: &All) {
        let broadcast = all.listeners.values().filter(|listener| listener.manner.prefixes.is_some()).count();
        self.broadcasting.store(broadcast, SeqCst);
    }

    /// One more, with the next number that nobody has.
    pub(super) fn enter(&self, mut next: impl FnMut() -> u32, ear: Arc<dyn Ear>, manner: Manner) -> u32 {
        let mut all = self.write();
        let mut number = next();
        // After four thousand million of them the numbers begin again.
        while matches!(number, EVERYBODY | NOBODY) || all.listeners.contains_key(&number) {
            number = next();
        }
        all.join(number, &manner);
        all.listeners.insert(number, Listener { ear, manner });
        self.count(&all);
        number
    }

    pub(super) fn change(&self, number: u32, manner: Manner) {
        let mut all = self.write();
        all.part(number);
        all.join(number, &manner);
        if let Some(listener) = all.listeners.get_mut(&number) {
            listener.manner = manner;
        }
        self.count(&all);
    }

    /// True if it was there. `last` is done while nobody tracks: whoever begins to comes after it.
    pub(super) fn leave(&self, number: u32, last: impl FnOnce()) -> bool {
        let mut all = self.write();
        all.part(number);
        let was_there = all.listeners.remove(&number).is_some();
        self.count(&all);
        if was_there && all.listeners.is_empty() {
            last();
        }
        was_there
    }

    /// False if it is known not to be there. Asked while a part of the table is locked, for which others may wait that
    /// hold this: so this does not wait.
    pub(super) fn may_have(&self, number: u32) -> bool {
        number == EVERYBODY || self.all.try_read().map_or(true, |all| all.listeners.contains_key(&number))
    }

    pub(super) fn broadcasts(&self) -> bool {
        self.broadcasting.load(SeqCst) > 0
    }

    /// As which number one has read a key: one that hears of keys by prefixes must only know when they end. `None`: it
    /// is not to be told.
    pub(super) fn reads_as(&self, number: u32, key: &[u8]) -> Option<u32> {
        match &self.read().listeners.get(&number)?.manner.prefixes {
            None => Some(number),
            Some(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)).then_some(EVERYBODY),
        }
    }

    /// True when a prefix of somebody's begins the key.
    pub(super) fn hear_of(&self, key: &[u8]) -> bool {
        self.broadcasts() && self.read().prefixes.keys().any(|prefix| key.starts_with(prefix))
    }

    /// Tells those of these numbers, and those who hear of the key by its beginning; how many they were.
    pub(super) fn tell(&self, key: &[u8], numbers: &[u32], by: Option<u64>) -> u64 {
        if numbers.is_empty() && !self.broadcasts() {
            return 0;
        }
        let (all, key) = (self.read(), Bytes::copy_from_slice(key));
        let mut told = 0;
        for listener in numbers.iter().filter_map(|number| all.listeners.get(number)) {
            if listener.manner.prefixes.is_none() && !listener.is_untold(by) {
                listener.ear.hears(&key);
                told += 1;
            }
        }
        for (prefix, numbers) in all.prefixes.iter().filter(|(prefix, _)| key.starts_with(prefix)) {
            let hearing = numbers.iter().filter_map(|number| all.listeners.get(number));
            for listener in hearing.filter(|listener| !listener.is_untold(by)) {
                listener.ear.hears_of(prefix, &key);
                told += 1;
            }
        }
        told
    }

    /// Tells those of these numbers alone.
    pub(super) fn tell_readers(&self, key: &[u8], numbers: &[u32]) -> u64 {
        let (all, key) = (self.read(), Bytes::copy_from_slice(key));
        let readers = numbers.iter().filter_map(|number| all.listeners.get(number));
        readers.filter(|reader| reader.manner.prefixes.is_none()).map(|reader| reader.ear.hears(&key)).count() as u64
    }

    /// Tells those who hear of keys that may begin so, of which nobody knows which they are, to forget everything.
    pub(super) fn tell_of_some(&self, begin: &[u8]) -> u64 {
        if !self.broadcasts() {
            return 0;
        }
        let all = self.read();
        let may_hear = |prefix: &Prefix| begin_alike(begin, prefix);
        let hearing = all.listeners.values().filter(|l| l.manner.prefixes.iter().flatten().any(may_hear));
        hearing.map(|listener| listener.ear.hears_all()).count() as u64
    }

    pub(super) fn tell_all(&self) -> u64 {
        self.read().listeners.values().map(|listener| listener.ear.hears_all()).count() as u64
    }

    pub(super) fn tell_one(&self, number: u32, key: &[u8]) -> u64 {
        let all = self.read();
        let Some(Listener { ear, manner }) = all.listeners.get(&number) else { return 0 };
        let key = Bytes::copy_from_slice(key);
        match &manner.prefixes {
            None => ear.hears(&key),
            Some(prefixes) => match prefixes.iter().find(|prefix| key.starts_with(prefix)) {
                Some(prefix) => ear.hears_of(prefix, &key),
                None => return 0,
            },
        }
        1
    }

    pub(super) fn tell_one_all(&self, number: u32) -> u64 {
        self.read().listeners.get(&number).map_or(0, |listener| {
            listener.ear.hears_all();
            1
        })
    }
}
