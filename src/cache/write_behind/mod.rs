//! Write-behind: writes that are acknowledged when they are in the journal, are applied to every record until the store
//! has them, and are saved many at a time. Knows memory, the journal and the store's flushes; never where a write comes
//! from.

pub(super) mod expiry;
pub(super) mod fenced;
pub(super) mod flush;
pub(super) mod flush_log;
pub(super) mod flushing;
pub(super) mod handing_over;
pub(super) mod journalling;
pub(super) mod strands;

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use expiry::Renewals;
use strands::Strands;

use super::memory::Memory;
use super::source::COMPLAIN_EVERY;
use crate::journal::Journal;
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
    /// Log lines about a store that takes nothing.
    complaints: LogThrottle,
    /// Most keys of one flush.
    flush_rows: usize,
    renewals: Renewals,
    /// The columns that the journal was told last, by mapping.
    remembered: Mutex<Option<Vec<(String, String)>>>,
    pub(super) metrics: Arc<WriteBehindMetrics>,
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
        let remembered = Mutex::default();
        Self { memory, journal, strands, flush_now, complaints, flush_rows, renewals, remembered, metrics }
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
