//! How many bytes wait in a journal, how many are put aside in it, and how many of both there may be
//! (`journal.max_bytes`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::JournalError;
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::JournalMetrics;

/// The room of one journal, in bytes.
#[derive(Debug)]
pub(super) struct Room {
    waiting: AtomicU64,
    /// What was put aside.
    aside: AtomicU64,
    most: u64,
    /// The bytes of the write that was refused last; 0 when one was taken since.
    last_refused: AtomicU64,
    logged: LogThrottle,
    metrics: Arc<JournalMetrics>,
}

impl Room {
    /// Room for `most` bytes, of which some are taken.
    pub(super) fn new(waiting: u64, aside: u64, most: u64, metrics: Arc<JournalMetrics>) -> Self {
        let (waiting, aside) = (AtomicU64::new(waiting), AtomicU64::new(aside));
        metrics.max_bytes.set(i64::try_from(most).unwrap_or(i64::MAX));
        let room =
            Self { waiting, aside, most, last_refused: AtomicU64::new(0), logged: LogThrottle::default(), metrics };
        room.measure();
        room
    }

    fn measure(&self) {
        self.metrics.bytes.set(self.waiting.load(SeqCst) as i64);
        self.metrics.aside_bytes.set(self.aside.load(SeqCst) as i64);
    }

    /// Takes so many bytes, if they are there.
    pub(super) fn take(&self, bytes: u64) -> Result<(), JournalError> {
        let aside = self.aside.load(SeqCst);
        if self.waiting.fetch_add(bytes, SeqCst) + bytes + aside <= self.most {
            self.last_refused.store(0, SeqCst);
            return Ok(());
        }
        self.waiting.fetch_sub(bytes, SeqCst);
        Err(self.is_full(bytes, aside))
    }

    /// Sees whether so many bytes are there now. None are kept free.
    pub(super) fn has(&self, bytes: u64) -> Result<(), JournalError> {
        let aside = self.aside.load(SeqCst);
        if self.waiting.load(SeqCst) + bytes + aside <= self.most {
            return Ok(());
        }
        Err(self.is_full(bytes, aside))
    }

    /// Refuses so many bytes. A write that never has room says nothing of others.
    fn is_full(&self, bytes: u64, aside: u64) -> JournalError {
        self.refused();
        let full = JournalError::Full { waiting: self.waiting.load(SeqCst), aside };
        if bytes <= self.most {
            self.last_refused.store(bytes, SeqCst);
            if let Some(unlogged) = self.logged.due() {
                tracing::warn!(error = %full, unlogged, "deferred writes are refused until the journal has room");
            }
        }
        full
    }

    /// Whether the write that was refused last would be refused now, if no other has been taken since.
    pub(super) fn takes(&self) -> Result<(), JournalError> {
        let (waiting, aside) = (self.waiting.load(SeqCst), self.aside.load(SeqCst));
        let bytes = self.last_refused.load(SeqCst);
        match bytes > 0 && waiting + bytes + aside > self.most {
            true => Err(JournalError::Full { waiting, aside }),
            false => Ok(()),
        }
    }

    /// Counts a write that the journal has not taken.
    pub(super) fn refused(&self) {
        self.metrics.refused.inc();
    }

    /// So many bytes wait no more.
    pub(super) fn free(&self, bytes: u64) {
        let _was = self.waiting.fetch_update(SeqCst, SeqCst, |now| Some(now.saturating_sub(bytes)));
        self.measure();
    }

    /// `freed` bytes wait no more, and lie aside as `aside` bytes.
    pub(super) fn put_aside(&self, freed: u64, aside: u64) {
        self.aside.fetch_add(aside, SeqCst);
        self.free(freed);
    }

    /// True when half of what may wait does.
    pub(super) fn is_half_full(&self) -> bool {
        self.waiting.load(SeqCst) > self.most.saturating_sub(self.aside.load(SeqCst)) / 2
    }
}
