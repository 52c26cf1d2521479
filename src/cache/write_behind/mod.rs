//! Write-behind: writes that are acknowledged when they are in the journal, are applied to every record until the store
//! has them, and are saved many at a time. Knows memory, the journal and the store's flushes; never where a write comes
//! from.

mod audit;
pub(super) mod expiry;
pub(super) mod fenced;
pub(super) mod flush;
pub(super) mod flush_log;
mod flusher;
pub(super) mod flushing;
pub(super) mod handing_over;
pub(super) mod inheritance;
pub(super) mod journalling;
pub(super) mod kept;
pub(super) mod pace;
pub(super) mod strands;
mod traced;
pub(super) mod under_way;

use std::sync::Arc;

use tokio::sync::{Mutex, Notify, watch};

use expiry::Renewals;
use inheritance::Inherited;
use kept::Kept;
use strands::Strands;
use traced::TracedWrites;

use super::memory::Memory;
use super::source::COMPLAIN_EVERY;
use crate::journal::Journal;
use crate::store::StoreError;
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::WriteBehindMetrics;

/// The deferred writes of one sidecar.
#[derive(Debug)]
pub(super) struct WriteBehind {
    memory: Arc<Memory>,
    /// The journal, if some mapping defers writes.
    pub(super) journal: Option<Arc<Journal>>,
    strands: Strands,
    flush_now: Notify,
    /// Another cache goes on with what waits.
    is_given_over: watch::Sender<bool>,
    /// What the cache before has left to be settled, before anything is taken here.
    inherited: Mutex<Inherited>,
    /// What the journal held at the start for mappings that are not configured.
    kept: Kept,
    /// Log lines about a store that takes nothing.
    complaints: LogThrottle,
    /// Most keys of one flush.
    flush_rows: usize,
    renewals: Renewals,
    /// The columns that the journal was told last, by mapping.
    remembered: Mutex<Option<Vec<(String, String)>>>,
    pub(super) metrics: Arc<WriteBehindMetrics>,
    /// Which of the writes that wait are traced.
    pub(super) traced: TracedWrites,
}

impl WriteBehind {
    /// Nothing waits yet; `flush_rows` keys are saved at once at most.
    pub(super) fn new(
        memory: Arc<Memory>,
        journal: Option<Arc<Journal>>,
        flush_rows: usize,
        renewals: Renewals,
        metrics: Arc<WriteBehindMetrics>,
    ) -> Self {
        let (strands, flush_now) = (Strands::of(&memory.source), Notify::new());
        let complaints = LogThrottle::every(COMPLAIN_EVERY);
        let (remembered, inherited, is_given_over) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        Self {
            memory,
            journal,
            strands,
            flush_now,
            is_given_over,
            inherited,
            kept: Kept::default(),
            complaints,
            flush_rows,
            renewals,
            remembered,
            metrics,
            traced: TracedWrites::default(),
        }
    }

    /// True when another cache goes on with what waits: nothing more is taken here.
    fn is_given_over(&self) -> bool {
        *self.is_given_over.borrow()
    }

    /// An answer of the store, if it comes in time, and before another cache goes on with what waits.
    ///
    /// # Errors
    /// The store's; `silence` where there is no answer.
    async fn answer<T>(
        &self,
        silence: fn(String) -> StoreError,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut given_over = self.is_given_over.subscribe();
        tokio::select! {
            biased;
            _ = given_over.wait_for(|is| *is) => Err(silence("the mappings are reloaded".into())),
            answer = tokio::time::timeout(self.memory.source.deadline, asking) => {
                answer.unwrap_or_else(|_| Err(silence("it took too long".into())))
            }
        }
    }

    /// Notes in the journal which columns deferred writes go to, if they are others than at the last time.
    pub(super) async fn remember_columns(&self) {
        let Some(journal) = &self.journal else { return };
        let defers = self.memory.source.all().filter(|cached| cached.block().defers());
        let columns =
            defers.filter_map(|cached| Some((cached.name().to_owned(), cached.current.plan().ok()?.columns()?)));
        let (columns, mut remembered) = (columns.collect::<Vec<_>>(), self.remembered.lock().await);
        if remembered.as_ref() == Some(&columns) {
            return;
        }
        match journal.remember(columns.clone()).await {
            Ok(()) => *remembered = Some(columns),
            Err(error) => tracing::warn!(
                %error,
                "the journal does not remember the columns, by which a start without the store judges deferred writes"
            ),
        }
    }
}
