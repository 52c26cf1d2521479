//! One transaction over several keys: MULTI/EXEC of owned keys. It is rolled back when it is dropped. Knows no
//! upstream.

use super::bulkhead::{Admitted, Work};
use super::postgres::PostgresTransaction;
use super::sqlite::SqliteTransaction;
use super::{Engine, Plan, Store, StoreError};
use crate::record::{Record, RowEdit, Written};

#[derive(Debug)]
enum Open {
    Postgres(PostgresTransaction),
    Sqlite(SqliteTransaction),
}

/// A transaction that is under way.
#[derive(Debug)]
pub struct StoreTransaction {
    open: Open,
    admitted: Admitted,
}

impl Store {
    /// Begins a transaction whose changes come back with the notices as those of `origin`, in a turn of the
    /// mappings of `plans`. With `snapshot` it sees one moment, and a write of what others have changed since is
    /// [`StoreError::Conflict`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, plans: &[&Plan], origin: &str, snapshot: bool) -> Result<StoreTransaction, StoreError> {
        let admitted = self.bulkhead.admit(plans, Work::Batch).await?;
        let beginning = async {
            match &self.engine {
                Engine::Postgres(store) => store.begin(origin, snapshot).await.map(Open::Postgres),
                Engine::Sqlite(store) => store.begin(Some(origin)).await.map(Open::Sqlite),
                Engine::Away(away) => Err(away.error()),
            }
        };
        let open = admitted.run_for_all(StoreError::Unavailable, beginning).await?;
        Ok(StoreTransaction { open, admitted })
    }
}

impl StoreTransaction {
    /// As [`Store::write`]. A write that is refused leaves the transaction as it was, unless
    /// [`StoreTransaction::is_undone`].
    ///
    /// # Errors
    /// [`StoreError::is_final`] says after which errors nothing more can be done in it.
    pub async fn write(&mut self, plan: &Plan, key: &[u8], edit: RowEdit<'_>) -> Result<Written, StoreError> {
        let writing = async {
            match &mut self.open {
                Open::Postgres(transaction) => transaction.write(plan, key, edit).await,
                Open::Sqlite(transaction) => transaction.write(plan, key, edit).await,
            }
        };
        self.admitted.run(plan, StoreError::Unavailable, writing).await
    }

    /// True after a write whose refusal has undone the whole transaction: nothing more can be done in it.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        match &self.open {
            Open::Postgres(_) => false,
            Open::Sqlite(transaction) => transaction.is_undone(),
        }
    }

    /// As [`Store::load`], of what the transaction sees.
    ///
    /// # Errors
    /// As [`StoreTransaction::write`].
    pub async fn load(&mut self, plan: &Plan, key: &[u8]) -> Result<Option<Record>, StoreError> {
        let loading = async {
            match &mut self.open {
                Open::Postgres(transaction) => transaction.load(plan, key).await,
                Open::Sqlite(transaction) => transaction.load(plan, key).await,
            }
        };
        self.admitted.run(plan, StoreError::Unavailable, loading).await
    }

    /// Makes everything of it true.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when the answer did not come.
    pub async fn commit(self) -> Result<(), StoreError> {
        let committing = async {
            match self.open {
                Open::Postgres(transaction) => transaction.commit().await,
                Open::Sqlite(transaction) => transaction.commit().await,
            }
        };
        self.admitted.run_for_all(StoreError::Ambiguous, committing).await
    }

    /// Undoes everything. A transaction that is merely dropped is undone too, at the price of SQLite's connection, and
    /// with it of what is in memory.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is true all the same.
    pub async fn roll_back(self) -> Result<(), StoreError> {
        let undoing = async {
            match self.open {
                Open::Postgres(transaction) => transaction.roll_back().await,
                Open::Sqlite(transaction) => transaction.roll_back().await,
            }
        };
        self.admitted.run_for_all(StoreError::Unavailable, undoing).await
    }
}
