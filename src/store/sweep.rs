//! Removes rows of keys that have expired by a column of theirs. Where the store refuses some, the caller finds out
//! which by naming fewer of them.

use super::bulkhead::Work;
use super::catalog::target::{Expires, Target, text};
use super::{Engine, Plan, Store, StoreError};

/// The key of a row: the texts of its columns, as a JSON array.
pub type RowKey = String;

/// Which of the rows that have expired are meant.
#[derive(Clone, Copy, Debug)]
pub enum Chosen<'c> {
    /// A thousand at most of all but these.
    AllBut(&'c [RowKey]),
    /// These.
    Only(&'c [RowKey]),
}

impl Chosen<'_> {
    /// The keys that it names, as one JSON array; `None`: it names none.
    pub(super) fn named(&self) -> Option<String> {
        let (Self::AllBut(keys) | Self::Only(keys)) = self;
        (!keys.is_empty()).then(|| format!("[{}]", keys.join(",")))
    }
}

/// A mapping's rows that may expire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'p> {
    pub(super) plan: &'p Plan,
    pub(super) target: &'p Target,
    pub(super) expires: &'p Expires,
    /// They expired longer ago than so many seconds.
    pub(super) grace: f64,
}

impl Plan {
    pub(super) fn ending(&self, grace: f64) -> Option<Ending<'_>> {
        let target = self.target.as_ref()?;
        Some(Ending { plan: self, target, expires: target.expires.as_ref()?, grace })
    }

    /// The row's key of a key; `None` where no row can have it.
    #[must_use]
    pub fn row_key(&self, key: &[u8]) -> Option<RowKey> {
        let texts: Option<Vec<&str>> = self.values(key)?.into_iter().map(|value| text(value, "").ok()).collect();
        Some(serde_json::Value::from(texts?).to_string())
    }
}

impl Store {
    /// Removes rows that expired by their column longer ago than `grace` seconds; how many. Where a session may take
    /// the column for another moment, only those that have expired for every session. Rows that somebody holds are
    /// passed over.
    ///
    /// # Errors
    /// [`StoreError`]: none is removed.
    pub async fn sweep(&self, plan: &Plan, grace: f64, chosen: Chosen<'_>) -> Result<u64, StoreError> {
        let Some(ending) = plan.ending(grace) else { return Ok(0) };
        let sweeping = async {
            match &self.engine {
                Engine::Postgres(store) => store.sweep(ending, chosen).await,
                Engine::Sqlite(store) => store.sweep(ending, chosen).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Batch, StoreError::Unavailable, sweeping).await
    }

    /// The keys of rows that such a sweep would remove.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expired(&self, plan: &Plan, grace: f64, chosen: Chosen<'_>) -> Result<Vec<RowKey>, StoreError> {
        let Some(ending) = plan.ending(grace) else { return Ok(Vec::new()) };
        let listing = async {
            match &self.engine {
                Engine::Postgres(store) => store.expired(ending, chosen).await,
                Engine::Sqlite(store) => store.expired(ending, chosen).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Batch, StoreError::Unavailable, listing).await
    }
}
