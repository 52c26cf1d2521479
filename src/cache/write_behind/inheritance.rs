//! What the cache before a reload has left to be settled: batches of which only the store knows whether they were
//! applied, and values for which no mapping is there any more.
//!
//! Invariants:
//! - nothing is taken before all of it is settled: neither a value that is in such a batch, nor a batch of a strand of
//!   which the store's note must still say how the last one ended;
//! - such a batch is never sent again: its statement was that of a mapping of before. Where the store has not applied
//!   it, its rows wait like all others.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::WriteBehind;
use super::flusher::{Flusher, Pending};
use crate::cache::memory::overlay::Rows;
use crate::journal::Entry;
use crate::store::{Fence, StoreError};

/// Why the values of a mapping that has gone are not saved.
const NO_MAPPING: &str = "its mapping is not configured any more, or writes no table";

/// What is to be settled.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Flushers whose last batch is not settled.
    pub(super) doubts: Vec<Flusher>,
    /// What waits for mappings that are not there.
    pub(super) orphans: Rows,
}

impl Inherited {
    /// The store has these batches: nothing of them is put aside.
    fn are_applied<'p>(&mut self, batches: impl Iterator<Item = &'p Arc<Pending>>) {
        let rows = batches.flat_map(|pending| &pending.rows);
        let applied: HashSet<u64> = rows.flat_map(|(_, entries)| entries.iter().map(|entry| entry.seq)).collect();
        self.orphans.retain_mut(|(_, entries)| {
            entries.retain(|entry| !applied.contains(&entry.seq));
            !entries.is_empty()
        });
    }
}

impl WriteBehind {
    /// Settles what the cache before has left.
    ///
    /// # Errors
    /// The store's, or the journal's; what is not settled then is tried again before anything is taken.
    pub(super) async fn settle_inherited(&self) -> Result<(), StoreError> {
        let mut inherited = self.inherited.lock().await;
        let settling = join_all(inherited.doubts.iter_mut().map(|doubt| self.settle(doubt)));
        let (applied, settled): (Vec<_>, Vec<_>) = settling.await.into_iter().unzip();
        inherited.doubts.retain(Flusher::is_unsettled);
        inherited.are_applied(applied.iter().flatten());
        settled.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
        if !inherited.orphans.is_empty() {
            self.put_orphans_aside(&inherited.orphans).await?;
            inherited.orphans.clear();
        }
        Ok(())
    }

    /// First what the journal does not know yet, and then the batch whose result is not known; that batch, where the
    /// store has it.
    async fn settle(&self, doubt: &mut Flusher) -> (Option<Arc<Pending>>, Result<(), StoreError>) {
        let mut applied = None;
        let settling = async {
            self.note(doubt).await?;
            if let Some(pending) = doubt.unknown.clone() {
                if doubt.was_sent && self.is_applied(&pending).await? {
                    applied = Some(pending.clone());
                    self.saved(doubt, &pending, None).await?;
                } else {
                    self.not_saved(doubt, &pending).await?;
                }
            }
            doubt.log.write();
            Ok(())
        };
        let settled = settling.await;
        (applied, settled)
    }

    /// Whether a batch was applied; it never will be any more.
    ///
    /// # Errors
    /// The store's: then it is as unknown as before.
    pub(super) async fn is_applied(&self, pending: &Pending) -> Result<bool, StoreError> {
        let (note, until) = (&pending.batch.note, pending.batch.number);
        let fence = Fence { journal: note, until, taken: &[], heir: None, former: &[] };
        let raised = self.answer(StoreError::Unavailable, self.memory.source.store.fence(fence)).await?;
        Ok(raised.applied.contains(&until))
    }

    async fn put_orphans_aside(&self, orphans: &Rows) -> Result<(), StoreError> {
        let entries: Vec<Entry> = orphans.iter().flat_map(|(_, entries)| entries.clone()).collect();
        self.journal()?.put_aside(&entries, NO_MAPPING).await?;
        self.metrics.put_aside.inc_by(orphans.len() as u64);
        self.audit_aside(orphans, NO_MAPPING);
        tracing::error!(
            keys = orphans.len(),
            mapping = entries.first().map_or("", |entry| &entry.mapping),
            "deferred writes wait for a mapping that is not configured any more (or writes no table): they are put \
             aside (the mapping is that of the first key); `hearthside journal` shows them"
        );
        Ok(())
    }
}
