//! What a strand's flushes keep from one to the next: the batch that is under way, how it ended, and which rows rest.
//! Knows no store.

use std::sync::Arc;

use super::flush_log::FlushLog;
use super::pace::Pace;
use crate::cache::memory::overlay::Rows;
use crate::journal::Batch;
use crate::keys::MappingId;
use crate::store::StoreError;

/// A batch whose result is not known.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) batch: Arc<Batch>,
    pub(super) mapping: MappingId,
    pub(super) rows: Rows,
}

/// The result of a batch.
///
/// The batch stays, and with it the journal's incarnation, until the journal knows.
#[derive(Debug)]
pub(super) enum Settled {
    Saved(Arc<Batch>),
    NotSaved(Arc<Batch>),
    /// The store refuses its only row, for this reason.
    PutAside(Arc<Pending>, StoreError),
}

/// The one place from which a strand is flushed.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    /// Taken, and to be sent, perhaps again.
    pub(super) unknown: Option<Arc<Pending>>,
    /// That one was sent, and may have been applied.
    pub(super) was_sent: bool,
    /// The journal does not know it yet.
    pub(super) ended: Option<Settled>,
    /// What of that batch a trigger or a policy has suppressed: it is put aside before the journal knows.
    pub(super) suppressed: Option<Pending>,
    /// The incarnation under which somebody else has noted something: it is given up before anything is taken.
    pub(super) collided: Option<Arc<str>>,
    /// So often the journal took another name since a batch was saved.
    pub(super) renewals: u8,
    /// The last flush of the strand has failed.
    pub(super) has_failed: bool,
    /// Which rows rest, and how many go at once.
    pub(super) pace: Pace,
    /// What is to be logged of this flush.
    pub(super) log: FlushLog,
}

impl Flusher {
    /// The batch is judged: that is noted in the journal next.
    pub(super) fn end(&mut self, settled: Settled) {
        (self.unknown, self.was_sent, self.ended) = (None, false, Some(settled));
    }

    /// Rows that rest are tried by the next flush.
    pub(super) fn rouse(&mut self) {
        self.pace.rouse();
    }

    /// True when an earlier flush has left something to be settled.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.unknown.is_some() || self.ended.is_some()
    }
}
