//! When deferred writes are saved: every now and then, when the journal is half full, before something that must come
//! after them, and at the end. Strands do not wait for each other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::WriteBehind;
use super::strands::Strand;
use super::under_way::UnderWay;
use crate::cache::memory::order::Touched;
use crate::keys::MappingId;
use crate::store::StoreError;
use crate::telemetry::metrics::PanicMetrics;

/// How often what rests is tried while somebody waits for it.
const AGAIN: Duration = Duration::from_millis(50);

impl WriteBehind {
    /// Saves what waits, every `interval` and whenever the journal is half full, for ever. A strand that is being
    /// saved, or rests after an error, keeps none of the others.
    pub(crate) async fn flush_for_ever(self: &Arc<Self>, interval: Duration, panics: &Arc<PanicMetrics>) {
        let mut ticker = tokio::time::interval(interval);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut under_way = UnderWay::new(panics.clone(), interval);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = self.flush_now.notified() => {}
                Some(()) = under_way.ended() => {
                    if !self.is_urgent() {
                        continue;
                    }
                }
            }
            // What it takes is logged by who asks it (`app/background.rs`).
            if !self.memory.source.store.standing().takes_writes() {
                continue;
            }
            if let Err(error) = self.settle_inherited().await {
                self.complain("", &error);
                continue;
            }
            for (at, _) in self.strands.due(&self.memory.overlay.mappings()) {
                under_way.begin(at, || self.clone().flush_and_rest(at, interval));
            }
        }
    }

    /// Saves what waits in the strand at this place, and rests for `interval` where that fails.
    async fn flush_and_rest(self: Arc<Self>, at: usize, interval: Duration) {
        if let Some(strand) = self.strands.get(at)
            && let Err(error) = self.flush_strand(strand).await
            && !self.is_given_over()
        {
            self.complain(&strand.name, &error);
            tokio::time::sleep(interval).await;
        }
    }

    /// Logs that what waits for a table cannot be saved. What concerns every strand is logged once for all.
    fn complain(&self, table: &str, error: &StoreError) {
        let is_of_all = matches!(error, StoreError::Unavailable(_) | StoreError::Ambiguous(_) | StoreError::Open);
        if !is_of_all || self.complaints.due().is_some() {
            let keys = self.memory.overlay.len();
            tracing::warn!(%error, keys, table, "deferred writes wait: the store does not take them");
        }
    }

    /// Saves everything that waits, for the last time: rows that rest are tried, too. What comes meanwhile is for the
    /// next start. A table that cannot be written, or that is locked, holds up no other.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub(crate) async fn flush_all_deferred(&self) -> Result<(), StoreError> {
        self.settle_inherited().await?;
        let waiting = self.memory.overlay.mappings();
        let flushes = self.strands.due(&waiting).map(|(_, strand)| self.flush_roused(strand));
        join_all(flushes).await.into_iter().collect()
    }

    /// Saves everything that waits in the strands of these mappings; what the store does not take now is tried again
    /// and again.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub(crate) async fn flush_all_of(&self, mappings: &[MappingId]) -> Result<(), StoreError> {
        let is_of_them = |strand: &Strand| strand.mappings.iter().any(|mapping| mappings.contains(mapping));
        loop {
            let waiting = self.memory.overlay.mappings();
            if !mappings.iter().any(|mapping| waiting.contains(mapping)) {
                return Ok(());
            }
            self.settle_inherited().await?;
            let flushes = self.strands.due(&waiting).filter(|(_, strand)| is_of_them(strand));
            let flushed: Result<Vec<()>, StoreError> =
                join_all(flushes.map(|(_, strand)| self.flush_roused(strand))).await.into_iter().collect();
            match flushed {
                // It may take them the next time, and rows that rest.
                Ok(_) | Err(StoreError::Overloaded(_) | StoreError::Transient(_)) => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Saves what waits in a strand, also what rests.
    async fn flush_roused(&self, strand: &Strand) -> Result<(), StoreError> {
        strand.flusher.lock().await.rouse();
        self.flush_strand(strand).await
    }

    /// True when everything that waits in the journal is in memory, too.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_succeeded())
    }

    /// Saves what waits in a mapping's strand, if expiries of keys are among it.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub(crate) async fn flush_expiries(&self, mapping: MappingId) -> Result<(), StoreError> {
        match self.strands.of_mapping(mapping) {
            Some(strand) if strand.mappings.iter().any(|id| self.memory.overlay.expires_since(*id, u64::MAX)) => {
                self.flush_strand(strand).await
            }
            _ => Ok(()),
        }
    }

    /// The mappings that write the same table as this one.
    pub(crate) fn mappings_beside(&self, mapping: MappingId) -> impl Iterator<Item = MappingId> {
        let strand = self.strands.of_mapping(mapping);
        strand.into_iter().flat_map(|strand| &strand.mappings).copied().filter(move |other| *other != mapping)
    }

    /// Saves what waits for one key, before something that must come after it, and what must go before that.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub(crate) async fn flush_key(&self, key: &Bytes) -> Result<(), StoreError> {
        let Some(dirty) = self.memory.overlay.of(key) else { return Ok(()) };
        let Some(strand) = self.strands.of_mapping(dirty.mapping) else { return Ok(()) };
        self.flush_first(strand, dirty.mapping, self.memory.with_ahead(&strand.mappings, key)).await
    }

    /// Saves what waits for other keys and must not come after a write that is saved at once: deferred changes through
    /// other mappings of the table, of the same columns and perhaps of the same row.
    ///
    /// # Errors
    /// The store's, or the journal's: nothing may be saved before them.
    pub(crate) async fn flush_before(
        &self,
        mapping: MappingId,
        key: &Bytes,
        touched: impl FnOnce() -> Touched,
    ) -> Result<(), StoreError> {
        let strand = self.strands.of_mapping(mapping).filter(|strand| strand.mappings.len() > 1);
        let Some(strand) = strand.filter(|_| self.memory.overlay.len() > 0) else { return Ok(()) };
        self.flush_first(strand, mapping, self.memory.ahead_of(&strand.mappings, (mapping, key), touched())).await
    }

    /// Saves these keys of a strand, on behalf of a write through one of its mappings.
    async fn flush_first(&self, strand: &Strand, mapping: MappingId, keys: HashSet<Bytes>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let store = &self.memory.source.store;
        store.wait_for_flush(self.settle_inherited()).await??;
        let mut flusher = store.wait_for_flush(strand.flusher.lock()).await?;
        // Boxed: the tasks of all writes hold it, and it is large.
        let flushed = Box::pin(self.flush_keys(strand, &mut flusher, &keys)).await;
        flusher.log.write();
        flushed.map_err(|(of, error)| match of.and_then(|of| self.memory.source.cached(of)) {
            Some(other) if of != Some(mapping) => StoreError::Transient(format!(
                "deferred writes of the same columns through the mapping '{}' go first, and cannot be saved now \
                 ({error})",
                other.name()
            )),
            _ => error,
        })
    }
}
