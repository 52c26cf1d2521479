//! The changes that a change feed reports, whichever feed it is. Knows no engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;

use super::logged::RowChange;
use crate::telemetry::clock::Tick;

/// A statement that changes more keys than this is reported as a change of the whole mapping.
pub const MOST_KEYS: usize = 1000;

/// One notice. They come in the order in which the changes happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The rows behind these keys changed; by a write with this origin, if a sidecar's write alone did it.
    Keys(Vec<Bytes>, Option<String>),
    /// The same, each with what one commit left behind it.
    Rows(Vec<RowChange>, Option<String>),
    /// The rows behind these keys change soon: a transaction that changed them may not be seen yet. Asks whom that
    /// concerns.
    Coming(Arc<Coming>),
    /// Any key of the mapping with this pattern may have changed.
    Mapping(String),
    /// The same, because a change trigger could not tell which ones. The store's code for what went wrong in it.
    Trouble(String, String),
    /// Anything may have changed, because it is not known what did, or because a gap has ended.
    Everything,
    /// A gap begins: changes may be missed until the next [`Change::Alive`]. Why.
    Gap(String),
    /// The gap goes on, or there has been no feed yet: another attempt has failed. Why.
    StillGap(String),
    /// A table is another one than it was: the schema is to be looked at.
    Schema,
    /// Somebody asks something of all sidecars (`word.rs`).
    Word(String),
    /// From now on changes are told in another way: what each mapping misses is another question.
    OtherFeed,
    /// The server keeps so many bytes of its log for the feed.
    Retained(u64),
    /// Every change up to this moment has been given.
    Alive(Tick),
}

/// Keys that one transaction has changed which stands in the store's log, and may not be seen yet; and what those who
/// are asked say of them.
#[derive(Debug, Default)]
pub struct Coming {
    /// The keys.
    pub keys: Vec<Bytes>,
    /// Which of the sidecar's writes it is, if it is one.
    pub from: Option<String>,
    is_kept: AtomicBool,
    is_seen: AtomicBool,
}

impl Coming {
    /// Of a transaction with this origin.
    #[must_use]
    pub fn new(keys: Vec<Bytes>, from: Option<String>) -> Self {
        Self { keys, from, ..Self::default() }
    }

    /// Somebody keeps, loads or writes one of the keys.
    pub fn keep(&self) {
        self.is_kept.store(true, SeqCst);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(SeqCst)
    }

    /// The write has been answered, so that everybody sees it.
    pub fn see(&self) {
        self.is_seen.store(true, SeqCst);
    }

    pub(super) fn is_seen(&self) -> bool {
        self.is_seen.load(SeqCst)
    }
}

impl PartialEq for Coming {
    fn eq(&self, other: &Self) -> bool {
        (&self.keys, &self.from) == (&other.keys, &other.from)
    }
}

impl Eq for Coming {}

/// Receives the changes. Each must have taken effect when this returns, because a later `Alive` vouches for it.
pub type OnChange = Arc<dyn Fn(Change) + Send + Sync>;
