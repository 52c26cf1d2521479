//! Writes: one at a time per key, in the order in which they came; what the store gives back is what memory holds next.

use std::sync::Arc;

use bytes::Bytes;

use super::Cache;
use super::flights::Right;
use crate::record::{Edit, Life, Written};
use crate::store::StoreError;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, OutcomeLabel};

/// How a write ended.
pub type WriteResult = Result<Written, StoreError>;

impl Cache {
    /// Writes `key`. The write has queued when this returns: later reads of the key wait for it. The future only waits.
    pub fn write(
        self: &Arc<Self>,
        id: usize,
        key: &Bytes,
        edit: Edit,
        life: Life,
    ) -> impl Future<Output = WriteResult> + use<> {
        let right = self.flights.queue(std::slice::from_ref(key), |key| self.shelf.take(key)).pop();
        let task = right.map(|right| self.runtime.spawn(self.clone().carry_out(id, right, edit, life)));
        async move {
            let given_up = || StoreError::Ambiguous("the write was given up".into());
            match task {
                Some(task) => task.await.unwrap_or_else(|_| Err(given_up())),
                None => Err(given_up()),
            }
        }
    }

    /// One write from its turn to its end.
    async fn carry_out(self: Arc<Self>, id: usize, mut right: Right, edit: Edit, life: Life) -> WriteResult {
        let Some(cached) = self.cached(id) else {
            return Err(StoreError::Refused("no such cached mapping".into()));
        };
        self.take_turn(&mut right).await;
        let (epoch, started) = (cached.epoch(), now_ms());
        let values = cached.mapping.pattern.captures(right.key()).unwrap_or_default();
        let number = self.origins.begin(vec![right.key().clone()]);
        let origin = self.origins.text(number);
        let writing = self.store.write(&cached.mapping, &cached.plan, &values, &edit, &origin);
        let result = match tokio::time::timeout(self.deadline, writing).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Ambiguous("the write took too long".into())),
        };
        let left = match &result {
            Ok(written) if written.tells_new => {
                let entry = cached.life.entry(written.new.clone(), id, epoch, started);
                let life = if written.applied { life } else { Life::Keep };
                Some(Arc::new(cached.life.replacing(entry, right.before.as_deref(), life)))
            }
            Ok(_) => None,
            // Perhaps it is applied, perhaps it will be: nobody may rely on what was in memory (hazard 10).
            Err(StoreError::Ambiguous(_)) => {
                self.origins.disown(number);
                None
            }
            Err(_) => right.before.take(),
        };
        right.end(left, |key, entry| self.shelf.put(key, entry));
        self.origins.end(number, now_ms());
        self.count_write(&result, started);
        if let Err(error @ (StoreError::Ambiguous(_) | StoreError::Unavailable(_))) = &result {
            cached.complain("a write failed", error, started);
        }
        result
    }

    /// Waits for what comes before a write.
    pub(super) async fn take_turn(&self, right: &mut Right) {
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
