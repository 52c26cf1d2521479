//! Deferred writes of many keys, saved at once and exactly once.
//!
//! The store keeps a note for each opening of a journal (its incarnation), which says who took over what it left, and
//! one for each of its strands, which only rises. A flush is applied only if its batch is above the fence of its
//! strand's note, which is compared under the note's lock in the statement, or transaction, that applies it: a copy
//! that comes late changes nothing (decisions 0017 and 0026). Knows no journal file, nor who defers.

use bytes::Bytes;

use super::bulkhead::Work;
use super::{Engine, Plan, Store, StoreError};
use crate::record::Record;

/// One key's deferred fields.
#[derive(Clone, Debug)]
pub struct FlushRow {
    /// The key.
    pub key: Bytes,
    /// Fields and their values; `None`: the field goes.
    pub fields: Vec<(Bytes, Option<Bytes>)>,
    /// The milliseconds until the key expires, from now on; `Some(None)`: it does not expire any more.
    pub left: Option<Option<i64>>,
}

/// Which flush it is: the name of its strand's note, the batch, and the origin that comes back with its notices.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'m> {
    /// The note, which was made by [`Store::enroll`].
    pub journal: &'m str,
    /// The batch.
    pub batch: u64,
    /// The origin.
    pub origin: &'m str,
}

/// What the store notes of one strand of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The last batch that was applied; 0: none.
    pub applied: u64,
    /// No batch up to this one will be applied any more. Never less than `applied`.
    pub fence: u64,
}

impl Note {
    /// From the numbers of a row.
    pub(super) const fn of((applied, fence): (i64, i64)) -> Self {
        Self { applied: applied.unsigned_abs(), fence: fence.unsigned_abs() }
    }
}

/// What came of a flush that the store has judged.
#[derive(Clone, Debug)]
pub enum Flushed {
    /// It is applied.
    Now {
        /// The keys and records of its rows as they are now.
        records: Vec<(Bytes, Option<Record>)>,
        /// The keys of rows that are there and were not written: a trigger or a policy kept them as they were.
        suppressed: Vec<Bytes>,
    },
    /// The fence let nothing through: the note as it stood afterwards, `None` where there is none.
    Fenced(Option<Note>),
}

/// What is to become of a strand, or of a whole incarnation of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'f> {
    /// The name of the strand's note, or the incarnation.
    pub journal: &'f str,
    /// No batch up to this one is to be applied any more.
    pub until: u64,
    /// Its batches whose result is not known: an older version of the program may have noted them elsewhere.
    pub taken: &'f [u64],
    /// Who takes over what the incarnation left, with all of its strands. `None`: the fence is that of one strand.
    pub heir: Option<&'f str>,
    /// Who asked for that from the same file before, and ended before the answer was noted there: one of them gives
    /// way, unless the store knows it as somebody who went on to save something.
    pub former: &'f [String],
}

/// What a fence has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The last batch of each strand that was applied, where any was.
    pub applied: Vec<u64>,
    /// The store had a note of the incarnation before.
    pub was_noted: bool,
    /// Who took over what the incarnation left.
    pub successor: Option<String>,
}

impl Raised {
    /// The batches of notes, some of which have none.
    pub(super) fn batches(applied: Vec<i64>) -> Vec<u64> {
        applied.into_iter().filter(|applied| *applied > 0).map(i64::unsigned_abs).collect()
    }
}

/// A fence past every batch: nothing of the incarnation is applied any more.
pub const ALL: u64 = i64::MAX as u64;

/// Notes that were not used for so long are removed.
pub(super) const KEPT_DAYS: i32 = 30;

impl Store {
    /// Waits for the flush of a table that is under way, and for those who wait for it already.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] after `store.queue_timeout`.
    pub async fn wait_for_flush<T>(&self, flush: impl Future<Output = T>) -> Result<T, StoreError> {
        self.bulkhead.within_patience(flush).await
    }

    /// Saves rows of one mapping if the journal's note lets the batch through, and raises the note, in one transaction.
    /// Rows that are not there stay so.
    ///
    /// # Errors
    /// As a write: after [`StoreError::Ambiguous`] the same batch may be sent again.
    pub async fn flush(&self, plan: &Plan, rows: &[FlushRow], mark: Mark<'_>) -> Result<Flushed, StoreError> {
        let flushing = async {
            match &self.engine {
                Engine::Postgres(store) => store.flush(plan, rows, mark).await,
                Engine::Sqlite(store) => store.flush(plan, rows, mark).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Batch, StoreError::Ambiguous, flushing).await
    }

    /// Makes the note of a journal's incarnation and that of one of its strands, before the first flush of this strand,
    /// and removes notes that nobody has used for long. Where the incarnation is closed, so is the strand.
    ///
    /// # Errors
    /// [`StoreError`]; trying again is safe.
    pub async fn enroll(&self, journal: &str, strand: &str) -> Result<(), StoreError> {
        let enrolling = async {
            match &self.engine {
                Engine::Postgres(store) => store.enroll(journal, strand).await,
                Engine::Sqlite(store) => store.enroll(journal, strand).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.unless_left(enrolling).await
    }

    /// Raises the fence of a strand, or of an incarnation with all of its strands, when a statement of it that is under
    /// way has ended; the last batches that were applied, which is final for every batch up to the fence. Who takes
    /// over is noted once: a second one learns of the first.
    ///
    /// # Errors
    /// [`StoreError`]; trying again is safe.
    pub async fn fence(&self, fence: Fence<'_>) -> Result<Raised, StoreError> {
        let raising = async {
            match &self.engine {
                Engine::Postgres(store) => store.fence(fence).await,
                Engine::Sqlite(store) => store.fence(fence).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.unless_left(raising).await
    }
}
