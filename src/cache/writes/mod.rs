//! Writes: one at a time per key, in the order in which they came; what the store gives back is what memory holds next.

pub(super) mod own_writes;
pub(super) mod steps;
pub(super) mod transaction;
pub(super) mod watched;

use std::sync::Arc;

use bytes::Bytes;

use super::memory::loads::WriteTurn;
use super::{Cache, Cached, Entry};
use crate::record::{Edit, TtlChange, Written};
use crate::store::StoreError;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, OutcomeLabel};

/// How a write ended.
pub type WriteResult = Result<Written, StoreError>;

impl Cache {
    /// One write through to the store, from its turn to its end.
    pub(super) async fn write_through(
        &self,
        cached: &Cached,
        mut right: WriteTurn,
        edit: &Edit,
        life: TtlChange,
    ) -> WriteResult {
        self.take_turn(&mut right).await;
        self.write_now(cached, right, edit, life).await
    }

    /// One write whose turn it is.
    pub(super) async fn write_now(
        &self,
        cached: &Cached,
        mut right: WriteTurn,
        edit: &Edit,
        life: TtlChange,
    ) -> WriteResult {
        if self.must_flush_before(right.key(), edit)
            && let Err(error) = self.flush_key(&right.key().clone()).await
        {
            let before = right.before.take();
            self.end(right, before);
            return Err(error);
        }
        let (epoch, started) = (cached.epoch(), now_ms());
        let mut result = self.store_write(cached, &right, edit).await;
        if let Ok(written) = &mut result
            && let Err(error) = self.live_on(cached, &right, written, life).await
        {
            result = Err(error);
        }
        let left = match &result {
            Ok(written) if written.tells_new => {
                let entry = cached.life.entry(written.new.clone(), cached.mapping.id.index(), epoch, started);
                let life = if written.applied { life } else { TtlChange::Keep };
                Some(Arc::new(cached.life.replacing(entry, right.before.as_deref(), life, started)))
            }
            // Perhaps it is applied, perhaps it will be: nobody may rely on what was in memory (hazard 10).
            Ok(_) | Err(StoreError::Ambiguous(_)) => None,
            Err(_) => right.before.take(),
        };
        self.end(right, left);
        result
    }

    /// Journals the end that a write leaves, of a key that ends by its column.
    async fn live_on(
        &self,
        cached: &Cached,
        right: &WriteTurn,
        written: &mut Written,
        asked: TtlChange,
    ) -> Result<(), StoreError> {
        let life = cached.life_after(asked, written.old.is_none());
        if let Some(life) = life.filter(|_| written.applied && written.new.is_some()) {
            let failed = |error| StoreError::Ambiguous(format!("the value was written, when it ends was not: {error}"));
            self.journal_life(cached, right.key(), life).await.map_err(failed)?;
            written.new = self.overlay.over(right.key(), written.new.take());
        }
        Ok(())
    }

    /// The statement of one write, and its record with what waits over it.
    pub(super) async fn store_write(&self, cached: &Cached, right: &WriteTurn, edit: &Edit) -> WriteResult {
        let started = now_ms();
        let origin = self.origins.begin(vec![right.key().clone()]);
        let text = origin.text();
        let writing = self.store.write(&cached.plan, right.key(), edit, &text);
        let mut result = match tokio::time::timeout(self.deadline, writing).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Ambiguous("the write took too long".into())),
        };
        match &mut result {
            Err(StoreError::Ambiguous(_)) => self.origins.disown(origin),
            Ok(written) if written.tells_new => {
                written.old = self.overlay.over(right.key(), written.old.take());
                written.new = self.overlay.over(right.key(), written.new.take());
            }
            _ => {}
        }
        self.origins.end(origin, now_ms());
        self.count_write(&result, started);
        if let Err(error @ (StoreError::Ambiguous(_) | StoreError::Unavailable(_))) = &result {
            cached.complain("a write failed", error);
        }
        result
    }

    /// True when what waits for a key must be saved first: it would come after this write otherwise.
    fn must_flush_before(&self, key: &[u8], edit: &Edit) -> bool {
        self.overlay.of(key).is_some_and(|dirty| match edit {
            Edit::Fields(changes, _) => {
                changes.iter().any(|(field, _)| dirty.entries.iter().any(|entry| entry.field == *field))
            }
            _ => true,
        })
    }

    /// Queues a write of one key.
    pub(super) fn queue_one(&self, key: &Bytes) -> WriteTurn {
        self.flights.queue_one(key, |key| self.shelf.take(key))
    }

    pub(super) fn end(&self, right: WriteTurn, left: Option<Arc<Entry>>) {
        right.end(left, |key, entry| self.shelf.put(key, entry));
    }

    /// Waits for what comes before a write.
    pub(super) async fn take_turn(&self, right: &mut WriteTurn) {
        if let Some(load) = right.load.take() {
            // Its result is for those who asked for it.
            let _theirs = load.wait().await;
        }
        if let Some(after) = right.after.take() {
            right.before = after.ended().await;
        }
    }

    fn count_write(&self, result: &WriteResult, started: u64) {
        let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.writes.get_or_create(&OutcomeLabel { outcome }).inc();
        self.metrics.write_seconds.observe((now_ms() - started) as f64 / 1000.0);
    }

    /// Forgets a key of which the change feed tells, unless it tells of a write of ours.
    pub fn changed(&self, key: &[u8], from: Option<&str>) {
        if !from.is_some_and(|from| self.origins.knows(from, key)) {
            self.invalidate(key);
        }
    }
}
