//! At a reload of mappings another cache goes on with the deferred writes. Nobody waits for that until the store has
//! taken them: a table may be locked, rights may be missing.
//!
//! Invariants:
//! - what waits lies over the records of the new cache before it is asked;
//! - it waits for the mapping of the same key pattern, as at a start; where there is none any more, it is put aside
//!   when every batch of before is settled;
//! - what was meant for a mapping that goes, or changes, is saved by that first, if the store takes it at once.

use std::time::Duration;

use futures_util::future::join_all;

use super::WriteBehind;
use super::flusher::Flusher;
use super::strands::Strand;
use crate::cache::source::Cached;
use crate::keys::MappingId;

impl WriteBehind {
    /// Saves, within `limit`, what waits for mappings that are not the same in `new`, where the last flush of their
    /// table has not failed.
    pub(crate) async fn save_changing(&self, new: &Self, limit: Duration) {
        let saving = join_all(self.strands.all().iter().map(|strand| self.save_changing_of(strand, new)));
        // What is not saved in time waits in the new cache, and whoever flushes may be dropped.
        let _in_time = tokio::time::timeout(limit, saving).await;
    }

    async fn save_changing_of(&self, strand: &Strand, new: &Self) {
        let is_same = |id: &MappingId| self.memory.source.cached(*id).is_none_or(|before| new.has_same(before));
        let changing: Vec<MappingId> = strand.mappings.iter().filter(|id| !is_same(id)).copied().collect();
        let waiting = self.memory.overlay.mappings();
        let has_failed = strand.flusher.try_lock().is_ok_and(|flusher| flusher.has_failed);
        if !has_failed && changing.iter().any(|id| waiting.contains(id)) {
            // What has failed is complained of by who flushes in the background.
            let _saved = self.flush_mappings(strand, changing).await;
        }
    }

    fn has_same(&self, before: &Cached) -> bool {
        self.memory.source.all().any(|now| now.block().is_same(before.block()))
    }

    /// What waits here waits in `new` from now on, and is not saved by this cache any more. Dropped halfway, it gives
    /// `new` nothing, and all of it stays in the journal.
    pub(crate) async fn hand_over(&self, new: &Self) {
        let Some(journal) = &self.journal else { return };
        // Where a flush is under way, its answer is waited for no more.
        self.is_given_over.send_replace(true);
        self.renewals.end().await;
        let mut inherited = new.inherited.lock().await;
        let mut given = std::mem::take(&mut *self.inherited.lock().await);
        for strand in self.strands.all() {
            let flusher = std::mem::take(&mut *strand.flusher.lock().await);
            if let Some(heir) = new.strands.of_table(&strand.name) {
                heir.flusher.lock().await.collided.clone_from(&flusher.collided);
            }
            given.doubts.extend(Some(flusher).filter(Flusher::is_unsettled));
        }
        // Older than all that was deferred since.
        self.hand_over_kept(journal, new);
        // A read that began before the reload may still look at this overlay: it keeps everything.
        let rows = self.memory.overlay.all().into_iter().map(|(key, dirty)| (key, dirty.entries));
        for (key, entries) in std::mem::take(&mut given.orphans).into_iter().chain(rows) {
            match entries.first().and_then(|entry| new.successor(&entry.mapping)) {
                Some(mapping) => new.memory.overlay.put(mapping, &key, &entries),
                None => given.orphans.push((key, entries)),
            }
        }
        *inherited = given;
        new.wake_flusher();
    }

    /// The mapping that goes on with what waits for one of this key pattern.
    pub(super) fn successor(&self, pattern: &str) -> Option<MappingId> {
        let is_successor = |now: &&Cached| now.name() == pattern && now.block().writes_table();
        Some(self.memory.source.all().find(is_successor)?.mapping().id)
    }
}
