//! Deferred writes of many keys, saved at once and exactly once.

use bytes::Bytes;

use super::{Engine, Plan, Store, StoreError};
use crate::mapping::Mapping;
use crate::record::Record;

/// One key's deferred fields.
#[derive(Clone, Debug)]
pub struct FlushRow {
    /// What the key's holes hold.
    pub values: Vec<Bytes>,
    /// Fields and their values; `None`: the field goes.
    pub fields: Vec<(Bytes, Option<Bytes>)>,
    /// The milliseconds the key shall live from now on; `Some(None)`: it does not end any more.
    pub left: Option<Option<i64>>,
}

/// Which flush it is: the journal, the batch, and the origin that comes back with its notices.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'m> {
    /// The journal.
    pub journal: &'m str,
    /// The batch.
    pub batch: u64,
    /// The origin.
    pub origin: &'m str,
}

impl Store {
    /// Saves rows of one mapping in one statement that also notes the batch; rows that are not there stay so. The keys
    /// and records of the rows as they are now; `None` when this batch has been applied before.
    ///
    /// # Errors
    /// As a write: after [`StoreError::Ambiguous`] the same batch may be sent again.
    pub async fn flush(
        &self,
        mapping: &Mapping,
        plan: &Plan,
        rows: &[FlushRow],
        mark: Mark<'_>,
    ) -> Result<Option<Vec<(Bytes, Option<Record>)>>, StoreError> {
        self.breaker.check()?;
        let flushed = match &self.engine {
            Engine::Postgres(store) => store.flush(mapping, plan, rows, mark).await,
            Engine::Sqlite(store) => store.flush(mapping, plan, rows, mark).await,
        };
        self.breaker.note(flushed.as_ref().err());
        flushed
    }

    /// Removes rows that ended by their column longer ago than `grace` seconds, a thousand at most; how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep(&self, plan: &Plan, grace: f64) -> Result<u64, StoreError> {
        let Some((table, column)) = plan.target.as_ref().and_then(|t| Some((&t.table, t.expires.as_ref()?))) else {
            return Ok(0);
        };
        match &self.engine {
            Engine::Postgres(store) => store.sweep(table, column, grace).await,
            Engine::Sqlite(store) => store.sweep(table, column, grace).await,
        }
    }

    /// True when a batch has been applied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn was_flushed(&self, journal: &str, batch: u64) -> Result<bool, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.was_flushed(journal, batch).await,
            Engine::Sqlite(store) => store.was_flushed(journal, batch).await,
        }
    }
}
