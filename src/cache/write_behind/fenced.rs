//! Judges a batch of deferred writes that the store did not simply apply: it was applied before, it will never be
//! applied, or its values are refused.
//!
//! Invariants:
//! - a note counts as success only for a batch that this process has sent before; any other is somebody else's, and the
//!   batch goes on under another incarnation of the journal;
//! - values that the store refuses are halved until the row at fault is alone, which is put aside; the others go on;
//! - what else the store refuses (no permission, a conflict, an error of a trigger's that may pass) is not put aside:
//!   the rows wait, and `pace.rs` says which go next.

use std::sync::Arc;

use super::WriteBehind;
use super::flusher::{Flusher, Pending, Settled};
use crate::cache::memory::overlay::Rows;
use crate::store::{Note, StoreError};
use crate::telemetry::planted::is_planted;

/// After so many in a row it is no coincidence, and the next flush may try again.
const MOST_RENEWALS: u8 = 3;

impl WriteBehind {
    /// The fence let nothing through: the batch was applied before, or another process has taken its number.
    pub(super) async fn fenced(
        &self,
        flusher: &mut Flusher,
        pending: &Arc<Pending>,
        note: Option<Note>,
    ) -> Result<Vec<Rows>, StoreError> {
        let was_sent = flusher.was_sent;
        let was_applied = was_sent && note.is_some_and(|note| note.applied == pending.batch.number);
        if was_applied || is_planted("note-reused") {
            return self.saved(flusher, pending, None).await;
        }
        match note {
            // Removed because it was not used for long, or with the whole store.
            None if !was_sent => tracing::info!("the store has no note of this journal; another is made"),
            None => tracing::error!(
                batch = pending.batch.number,
                "the store's note of this journal is gone (hearthside.journals) while it was not known whether a batch \
                 had been applied; it is sent again"
            ),
            Some(note) => tracing::error!(
                batch = pending.batch.number,
                noted = note.applied,
                fence = note.fence,
                "a batch of this journal has been noted by somebody else: is a copy of the journal, or of the machine, \
                 in use? It is sent again under another name"
            ),
        }
        if note.is_some() || was_sent {
            self.metrics.journal_collisions.inc();
        }
        // If the journal cannot note it now, it does before anything is taken, and so is the name given up.
        flusher.collided = Some(pending.batch.held.incarnation().clone());
        flusher.renewals = flusher.renewals.saturating_add(1);
        self.not_saved(flusher, pending).await?;
        if flusher.renewals > MOST_RENEWALS {
            let reason =
                "its notes of this journal do not stay (hearthside.journals): does a trigger or a policy hide them?";
            return Err(StoreError::Refused(reason.into()));
        }
        Ok(vec![pending.rows.clone()])
    }

    /// The store refuses a batch. If an earlier attempt may have been applied, that is decided first.
    pub(super) async fn refused(
        &self,
        flusher: &mut Flusher,
        pending: &Arc<Pending>,
        error: StoreError,
    ) -> Result<Vec<Rows>, StoreError> {
        if flusher.was_sent {
            match self.is_applied(pending).await {
                Ok(true) => return self.saved(flusher, pending, None).await,
                Ok(false) => {}
                // Its result is as unknown as before, and nothing else may be taken.
                Err(_) => return Err(StoreError::Ambiguous(error.to_string())),
            }
        }
        let is_about_values = error.is_about_values();
        if is_about_values && pending.rows.len() == 1 {
            flusher.end(Settled::PutAside(pending.clone(), error));
            return self.note(flusher).await.map(|()| Vec::new());
        }
        self.not_saved(flusher, pending).await?;
        if !is_about_values {
            return Err(error);
        }
        let (left, right) = pending.rows.split_at(pending.rows.len() / 2);
        Ok(vec![right.to_vec(), left.to_vec()])
    }
}
