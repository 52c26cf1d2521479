//! What is kept: replies by the bytes of their requests, for all threads. Bounded in bytes; who has not been asked for
//! lately goes first (second chance: a clock's hand passes over what was asked for since it last came by).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use foldhash::fast::FixedState;

use super::words::Fence;
use crate::resp::Proto;
use crate::telemetry::clock::Tick;

/// What an entry takes beside its request and its reply, about: it, its places in the map and in the ring.
const BESIDE: usize = 192;
/// Threads that look at once seldom meet at one part.
const PARTS: usize = 16;

/// What of a request says which reply it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// Of all the rest.
    pub(super) hash: u64,
    pub(super) raw: &'a [u8],
    pub(super) proto: Proto,
    pub(super) db: i64,
}

/// One reply.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) request: Box<[u8]>,
    pub(super) proto: Proto,
    pub(super) db: i64,
    pub(super) reply: Bytes,
    /// The block that its keys are of.
    pub(super) block: usize,
    /// Everything's word, and those of its keys, as they were before the request was sent.
    pub(super) everything: u64,
    pub(super) fence: Fence,
    pub(super) others: Box<[Fence]>,
    /// It is answered before this moment.
    pub(super) until: Tick,
    /// When the upstream is told again that its keys are read.
    pub(super) touch_at: AtomicU64,
    /// It has been asked for since the hand last came by.
    was_asked: AtomicBool,
}

impl Entry {
    /// The reply to this.
    pub(super) fn of(question: &Question<'_>, reply: Bytes, block: usize, fences: &[Fence]) -> Option<Self> {
        let (fence, others) = fences.split_first()?;
        Some(Self {
            hash: question.hash,
            request: question.raw.into(),
            proto: question.proto,
            db: question.db,
            reply,
            block,
            everything: 0,
            fence: *fence,
            others: others.into(),
            until: Tick::default(),
            touch_at: AtomicU64::default(),
            was_asked: AtomicBool::default(),
        })
    }

    #[inline]
    pub(super) fn answers(&self, question: &Question<'_>) -> bool {
        (self.hash, self.db, self.proto) == (question.hash, question.db, question.proto)
            && *self.request == *question.raw
    }

    /// Somebody asks for it. Written only where that is news: other threads read it, too.
    #[inline]
    pub(super) fn is_asked(&self) {
        if !self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(true, Ordering::Relaxed);
        }
    }

    /// Of the request and the reply, in bytes.
    pub(super) fn length(&self) -> usize {
        self.request.len() + self.reply.len()
    }

    fn cost(&self) -> usize {
        self.length() + self.others.len() * size_of::<Fence>() + BESIDE
    }
}

#[derive(Debug, Default)]
struct Part {
    entries: HashMap<u64, Arc<Entry>, FixedState>,
    /// Each entry once, in the order in which the hand comes by.
    ring: VecDeque<u64>,
}

/// The replies of one block.
#[derive(Debug)]
pub(super) struct Memory {
    parts: [Mutex<Part>; PARTS],
    bytes: AtomicUsize,
    entries: AtomicUsize,
    max_bytes: usize,
}

impl Memory {
    pub(super) fn new(max_bytes: usize) -> Self {
        let (bytes, entries) = (AtomicUsize::default(), AtomicUsize::default());
        Self { parts: Default::default(), bytes, entries, max_bytes }
    }

    /// A reply that is longer than this with its request is not kept.
    pub(super) const fn longest(&self) -> usize {
        let share = self.max_bytes / 8;
        if share < 1 << 20 { share } else { 1 << 20 }
    }

    /// Entries and their bytes.
    pub(super) fn room(&self) -> (usize, usize) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Part> {
        self.nth((hash >> 48) as usize)
    }

    fn nth(&self, at: usize) -> MutexGuard<'_, Part> {
        self.parts[at % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, question: &Question<'_>) -> Option<Arc<Entry>> {
        self.part(question.hash).entries.get(&question.hash).filter(|entry| entry.answers(question)).cloned()
    }

    fn came(&self, entry: &Entry) {
        self.bytes.fetch_add(entry.cost(), Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn went(&self, entry: &Entry) {
        self.bytes.fetch_sub(entry.cost(), Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    /// Keeps an entry; where there is no room, others go, first those that hold no more.
    pub(super) fn put(&self, entry: Entry, holds: impl Fn(&Entry) -> bool) {
        let (hash, entry) = (entry.hash, Arc::new(entry));
        let mut part = self.part(hash);
        self.came(&entry);
        match part.entries.insert(hash, entry) {
            Some(before) => self.went(&before),
            None => part.ring.push_back(hash),
        }
        // Each may be passed over once.
        let mut most = part.ring.len() * 2;
        while self.bytes.load(Ordering::Relaxed) > self.max_bytes && most > 0 {
            most -= 1;
            let Some(next) = part.ring.pop_front() else { break };
            let is_spared = |entry: &Arc<Entry>| holds(entry) && entry.was_asked.swap(false, Ordering::Relaxed);
            if part.entries.get(&next).is_some_and(is_spared) {
                part.ring.push_back(next);
            } else if let Some(gone) = part.entries.remove(&next) {
                self.went(&gone);
            }
        }
    }

    /// Gives back the memory of what holds no more, in one part after the other.
    pub(super) fn tidy(&self, turn: usize, holds: impl Fn(&Entry) -> bool) {
        let mut part = self.nth(turn);
        let Part { entries, ring } = &mut *part;
        entries.retain(|_, entry| {
            let is_kept = holds(entry);
            if !is_kept {
                self.went(entry);
            }
            is_kept
        });
        ring.retain(|hash| entries.contains_key(hash));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Entry, Memory, Question};
    use crate::near::words::Words;
    use crate::resp::Proto;

    const fn question(hash: u64, raw: &[u8]) -> Question<'_> {
        Question { hash, raw, proto: Proto::Resp2, db: 0 }
    }

    fn entry(hash: u64, raw: &[u8], reply: usize) -> Entry {
        let fence = Words::default().fence(b"a").expect("quiet");
        Entry::of(&question(hash, raw), Bytes::from(vec![b'x'; reply]), 0, &[fence]).expect("a fence")
    }

    #[test]
    fn a_reply_is_found_by_its_request_protocol_and_database() {
        let memory = Memory::new(1 << 20);
        memory.put(entry(1, b"GET a", 1), |_| true);
        assert!(memory.get(&question(1, b"GET a")).is_some());
        assert!(memory.get(&question(1, b"GET b")).is_none() && memory.get(&question(2, b"GET a")).is_none());
        assert!(memory.get(&Question { db: 1, ..question(1, b"GET a") }).is_none());
        assert!(memory.get(&Question { proto: Proto::Resp3, ..question(1, b"GET a") }).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let memory = Memory::new(64 << 10);
        for hash in 0..1000 {
            memory.put(entry(hash, b"GET a", 1000), |_| true);
            if let Some(first) = memory.get(&question(0, b"GET a")) {
                first.is_asked();
            }
            assert!(memory.room().1 <= 64 << 10);
        }
        assert!(memory.get(&question(0, b"GET a")).is_some() && memory.get(&question(1, b"GET a")).is_none());
        assert!(memory.room().0 > 40, "{:?}", memory.room());
    }

    #[test]
    fn what_holds_no_more_gives_its_memory_back() {
        let memory = Memory::new(1 << 20);
        (0..100).for_each(|hash| memory.put(entry(hash << 48, b"GET a", 10), |_| true));
        (0..16).for_each(|turn| memory.tidy(turn, |_| false));
        assert_eq!(memory.room(), (0, 0));
    }
}
