//! At a reload of mappings another cache goes on with the deferred writes: with none, where all of them can be saved,
//! and else with those whose table is locked, say. Nothing else waits for these.

use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;

use super::WriteBehind;
use super::flush::Flusher;
use super::strands::Strand;
use crate::cache::memory::overlay::Rows;
use crate::journal::Journal;
use crate::keys::MappingId;
use crate::store::StoreError;

impl WriteBehind {
    /// Saves everything that waits, so that nothing does any more here; what cannot be saved now waits in `new`.
    ///
    /// # Errors
    /// The store's, or the journal's, where a strand's last batch is not settled, or something waits in it for a
    /// mapping that `new` does not have: that still waits here.
    pub(crate) async fn hand_over(&self, new: &Self) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let waiting = self.memory.overlay.mappings();
        let ends = self.strands.due(&waiting).map(|(_, strand)| self.end_strand(journal, strand, new));
        join_all(ends).await.into_iter().collect()
    }

    async fn end_strand(&self, journal: &Journal, strand: &Strand, new: &Self) -> Result<(), StoreError> {
        let mut flusher = strand.flusher.lock().await;
        // Where it was tried a moment ago, that is not waited for again.
        let ended = match flusher.was_locked_out() {
            Some(error) => Err(error),
            None => self.flush_every(journal, strand, &mut flusher).await,
        };
        flusher.log.write(&self.memory.source);
        match ended {
            Err(_) if new.take_strand(self, strand, &flusher) => Ok(()),
            ended => ended,
        }
    }

    /// What waits in a strand of `old` is saved here from now on, and by `old` no more. False where that cannot be.
    fn take_strand(&self, old: &Self, strand: &Strand, flusher: &Flusher) -> bool {
        let of = |id: &MappingId| old.memory.overlay.oldest(usize::MAX, u64::MAX, &[*id]);
        let here = strand.mappings.iter().filter_map(of).map(|(id, rows)| Some((self.successor_of(old, id)?, rows)));
        let here: Option<Vec<(MappingId, Rows)>> = here.collect();
        let Some(here) = here.filter(|_| !flusher.is_unsettled()) else { return false };
        strand.is_given_over.store(true, SeqCst);
        for (mapping, rows) in here {
            rows.iter().for_each(|(key, entries)| self.memory.overlay.put(mapping, key, entries));
        }
        self.wake_flusher();
        true
    }

    /// The mapping here that is the same as one of `old`.
    fn successor_of(&self, old: &Self, id: MappingId) -> Option<MappingId> {
        let before = old.memory.source.cached(id)?;
        let same = self.memory.source.all().find(|now| now.block().is_same(before.block()))?;
        Some(same.mapping().id)
    }
}
