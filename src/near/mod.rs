//! The near cache: replies to reads of pass-through keys (`[[near]]`), kept while the upstream's own tracking vouches
//! for them (decision 0047).
//!
//! Invariants:
//! - what is kept is a reply as the upstream gave it, found by the bytes of its request: nothing is evaluated here;
//! - it holds while nothing has happened to its keys since before its request was sent: no invalidation, and no write
//!   of this sidecar's clients, which ends it before the write is sent and keeps the next from coming in before the
//!   write has been answered (`words.rs`, `detached.rs`);
//! - it is answered while the upstream has lately said, over every connection that tells what changes, that nothing
//!   else has happened (`Near::vouch`); when such a connection is lost nothing that was kept holds any more
//!   (`Near::gap`).

mod block;
mod commands;
mod detached;
mod fill;
mod front;
mod memory;
mod news;
mod words;

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

pub use block::check;
pub use detached::Detached;
pub use fill::Fill;
pub use front::{Found, Front};

use crate::command::{Request, Source, Spec};
use crate::config::NearConfig;
use crate::resp::Proto;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{NearCounts, NearMetrics};
use crate::telemetry::planted::is_planted;
use block::Block;
use memory::{Entry, Memory, Question};
use words::{Word, Words};

/// A request with more keys is not kept.
const MOST_KEYS: usize = 16;

/// How long, in milliseconds, the upstream's last word that it has told everything is believed.
pub const BELIEVED: u64 = 1000;

/// What the upstream was when its tracking was begun: what comes from another one is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    /// The number of the map of a cluster.
    pub edition: u64,
    /// How often slots of a cluster have moved.
    pub moves: u64,
    /// The number of the location.
    pub location: u64,
}

/// A read that may be answered from memory.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    block: usize,
    question: Question<'a>,
}

/// One block with what is kept of it.
#[derive(Debug)]
struct Kept {
    block: Block,
    memory: Memory,
    counts: NearCounts,
}

/// What is kept of all blocks, for all threads.
#[derive(Debug)]
pub struct Near {
    kept: Vec<Kept>,
    /// Which commands may be answered, by their numbers.
    reads: Vec<bool>,
    hasher: RandomState,
    /// What happens to everything at once.
    everything: Word,
    words: Words,
    /// What is kept is answered before this moment.
    until: AtomicU64,
    ground: Mutex<Option<Ground>>,
    metrics: Arc<NearMetrics>,
}

impl Near {
    /// Nothing is kept yet; none without a block.
    #[must_use]
    pub fn new(blocks: &[NearConfig], metrics: &Arc<NearMetrics>) -> Option<Arc<Self>> {
        let kept = |config: &NearConfig| {
            let block = Block::new(config);
            let (memory, counts) = (Memory::new(block.max_bytes), metrics.of(&block.keys));
            Kept { block, memory, counts }
        };
        (!blocks.is_empty()).then(|| {
            Arc::new(Self {
                kept: blocks.iter().map(kept).collect(),
                reads: commands::kept(),
                hasher: RandomState::default(),
                everything: Word::default(),
                words: Words::default(),
                until: AtomicU64::new(0),
                ground: Mutex::new(None),
                metrics: metrics.clone(),
            })
        })
    }

    /// What the keys of each block begin with.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().map(|kept| &*kept.block.prefix)
    }

    /// The block that a key is of, as it is written.
    #[must_use]
    pub fn block(&self, key: &[u8]) -> Option<&str> {
        self.block_of(key).map(|at| self.kept[at].block.keys.as_str())
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.kept.len()
    }

    /// How much is kept: entries and bytes.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let rooms = self.kept.iter().map(|kept| kept.memory.room());
        rooms.fold((0, 0), |(entries, bytes), room| (entries + room.0, bytes + room.1))
    }

    /// True while the upstream vouches for what is kept.
    #[must_use]
    pub fn is_vouched(&self, now: Tick) -> bool {
        now.as_ms() < self.until.load(Ordering::Acquire)
    }

    #[inline]
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.kept.iter().position(|kept| kept.block.has(key))
    }

    /// The request as a read of kept keys, if it is one.
    #[inline]
    #[must_use]
    pub fn read<'a>(&self, request: &Request<'a>, spec: &Spec, group: (Proto, i64)) -> Option<Read<'a>> {
        if spec.source != Source::BuiltIn || !self.reads.get(spec.id).copied().unwrap_or(false) {
            return None;
        }
        let block = match spec.key_of(request.len()) {
            Some(at) => self.block_of(request.arg(at))?,
            None => self.block_of_all(request, spec)?,
        };
        let ((proto, db), raw) = (group, request.raw());
        let mut hasher = self.hasher.build_hasher();
        (proto.number(), db).hash(&mut hasher);
        hasher.write(raw);
        Some(Read { block, question: Question { hash: hasher.finish(), raw, proto, db } })
    }

    /// The block of the first of several keys, if all are kept.
    fn block_of_all(&self, request: &Request<'_>, spec: &Spec) -> Option<usize> {
        let (mut first, mut keys, mut all) = (None, 0, true);
        request.each_key(spec, |at| {
            keys += 1;
            let block = self.block_of(request.arg(at));
            all = all && block.is_some();
            first = first.or(block);
        });
        first.filter(|_| all && keys <= MOST_KEYS)
    }

    /// What was kept is answered still.
    #[inline]
    fn holds(&self, entry: &Entry, now: Tick) -> bool {
        now < entry.until
            && self.is_vouched(now)
            && self.everything.now() == entry.everything
            && self.words.holds(entry.fence)
            && entry.others.iter().all(|fence| self.words.holds(*fence))
    }

    /// No write of the keys of a read is under way, so that its reply may be kept.
    #[must_use]
    pub fn is_quiet(&self, request: &Request<'_>, spec: &Spec) -> bool {
        let mut is_quiet = self.everything.quiet().is_some();
        request.each_key(spec, |at| is_quiet = is_quiet && self.words.fence(request.arg(at)).is_some());
        is_quiet
    }

    /// Something has changed `key`, whose reader may have kept it.
    pub fn changed(&self, key: &[u8]) {
        if let Some(at) = self.end(key) {
            self.kept[at].counts.invalidations.inc();
        }
    }

    /// The upstream says that all keys are gone.
    pub fn emptied(&self) {
        self.everything.change();
        for kept in &self.kept {
            kept.counts.invalidations.inc();
        }
    }

    /// What changed at the upstream before this moment has been told, and the upstream is this one.
    pub fn vouch(&self, told: Tick, ground: Ground) {
        *self.ground() = Some(ground);
        self.until.store(told.plus(BELIEVED).as_ms(), Ordering::Release);
        self.metrics.up.set(1);
    }

    /// What has changed may not have been told: what was kept holds no more, and nothing is kept until the upstream
    /// vouches for it again.
    pub fn gap(&self) {
        self.until.store(0, Ordering::Release);
        *self.ground() = None;
        if !is_planted("near-gap-not-flushed") {
            self.everything.change();
        }
        if self.metrics.up.set(0) == 1 {
            self.metrics.gaps.inc();
        }
    }

    /// A reload has brought other blocks: nothing is answered from here any more.
    pub fn close(&self) {
        self.everything.begin();
        self.gap();
    }

    /// Gives back memory of what holds no more, some of it at each of these `turn`s, and shows how much is taken.
    pub fn tidy(&self, turn: usize) {
        let now = Tick::now();
        for kept in &self.kept {
            kept.memory.tidy(turn, |entry| self.holds(entry, now));
            let (entries, bytes) = kept.memory.room();
            kept.counts.entries.set(entries as i64);
            kept.counts.bytes.set(bytes as i64);
        }
    }

    fn ground(&self) -> MutexGuard<'_, Option<Ground>> {
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self, ground: Ground) -> bool {
        *self.ground() == Some(ground)
    }
}
