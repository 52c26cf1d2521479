//! A SQLite transaction on the one connection that writes, with a savepoint before each write.
//!
//! SQLite may undo a whole transaction because of one statement: `ON CONFLICT ROLLBACK`, `RAISE(ROLLBACK)`, a disk that
//! is full. What came next would be a transaction of its own, so that nothing more is done in one that was undone.
//! Source: <https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::OwnedMutexGuard;

use super::own_changes::OwnChanges;
use super::write::Desk;
use super::writer::{Held, Open};
use crate::record::{Record, RowEdit, Written};
use crate::store::{Foreign, Plan, StoreError};

fn closed() -> StoreError {
    StoreError::Unavailable("the file is closed".into())
}

fn undone() -> StoreError {
    StoreError::Refused("the whole transaction was undone because of an error in it".into())
}

/// Holds the connection; a transaction that is dropped closes it, which rolls back. The next connection cannot tell
/// what others have committed meanwhile, so that everything counts as changed.
#[derive(Debug)]
pub(in crate::store) struct SqliteTransaction {
    guard: OwnedMutexGuard<Held>,
    changes: OwnChanges,
    /// It is committed or rolled back: there is nothing to undo.
    is_done: bool,
    /// A statement that failed has ended it.
    is_undone: bool,
}

impl SqliteTransaction {
    pub(super) async fn begin(guard: OwnedMutexGuard<Held>, changes: OwnChanges) -> Result<Self, StoreError> {
        let mut transaction = Self { guard, changes, is_done: false, is_undone: false };
        transaction.run("BEGIN IMMEDIATE").await?;
        Ok(transaction)
    }

    async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.run_or(sql, StoreError::of_write).await
    }

    async fn run_or(&mut self, sql: &str, failed: fn(sqlx::Error) -> StoreError) -> Result<(), StoreError> {
        let statement = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut self.open()?.connection);
        statement.await.map(|_| ()).map_err(failed)
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.open().map(|open| &mut open.connection)
    }

    fn open(&mut self) -> Result<&mut Open, StoreError> {
        if self.is_undone {
            return Err(undone());
        }
        self.guard.open.as_mut().ok_or_else(closed)
    }

    /// The write, or load, of one key.
    fn desk<'w>(&'w mut self, plan: &'w Plan, key: &'w [u8]) -> Result<Desk<'w>, StoreError> {
        Desk::new(self.connection()?, plan, key)
    }

    pub(in crate::store) async fn write(
        &mut self,
        plan: &Plan,
        key: &[u8],
        edit: RowEdit<'_>,
    ) -> Result<Written, StoreError> {
        self.run("SAVEPOINT one").await?;
        let written = self.write_and_note(plan, key, edit).await;
        if written.is_err() && !self.undo_one().await {
            return written;
        }
        self.run("RELEASE one").await?;
        written
    }

    /// Inserts a whole record, unless the key has a row; the record as it is then, if it did.
    pub(super) async fn adopt(&mut self, plan: &Plan, (key, record): &Foreign) -> Result<Option<Record>, StoreError> {
        self.run("SAVEPOINT one").await?;
        let adopted = async {
            let adopted = self.desk(plan, key)?.adopt(record).await?;
            self.note(Some(key)).await?;
            Ok(adopted)
        };
        let adopted = adopted.await;
        if adopted.is_err() && !self.undo_one().await {
            return adopted;
        }
        self.run("RELEASE one").await?;
        adopted
    }

    /// Removes what was inserted, if it is as it was.
    pub(super) async fn retract(&mut self, plan: &Plan, key: &[u8], inserted: &Record) -> Result<bool, StoreError> {
        let is_gone = self.desk(plan, key)?.retract(inserted).await?;
        self.note(Some(key)).await?;
        Ok(is_gone)
    }

    /// Undoes what was done since the savepoint. False when the savepoint is gone with the whole transaction, or when
    /// that is not known: the connection is closed then.
    async fn undo_one(&mut self) -> bool {
        let Err(error) = self.run("ROLLBACK TO one").await else { return true };
        self.is_done = matches!(&error, StoreError::Refused(text) if text.contains("no such savepoint"));
        self.is_undone = true;
        false
    }

    /// True after a write whose failure has undone everything, or may have: nothing more can be done in it.
    pub(in crate::store) const fn is_undone(&self) -> bool {
        self.is_undone
    }

    async fn write_and_note(&mut self, plan: &Plan, key: &[u8], edit: RowEdit<'_>) -> Result<Written, StoreError> {
        let written = self.desk(plan, key)?.write(edit).await?;
        self.note(Some(key)).await?;
        Ok(written)
    }

    /// Notes what has changed since the last time, with the write of this key.
    pub(super) async fn note(&mut self, written: Option<&[u8]>) -> Result<(), StoreError> {
        if self.is_undone {
            return Err(undone());
        }
        let open = self.guard.open.as_mut().ok_or_else(closed)?;
        self.changes.take(&mut open.connection, written).await
    }

    /// Sets when a row ends, in milliseconds from now; `None`: never.
    pub(super) async fn set_end(&mut self, plan: &Plan, key: &[u8], left: Option<i64>) -> Result<(), StoreError> {
        self.desk(plan, key)?.set_end(left).await
    }

    pub(in crate::store) async fn load(&mut self, plan: &Plan, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.desk(plan, key)?.load().await
    }

    /// What it has changed is told when this returns. If the commit fails, the connection is closed, and everything
    /// counts as changed. It fails too where nobody will find what was committed: the file was replaced meanwhile.
    pub(in crate::store) async fn commit(mut self) -> Result<(), StoreError> {
        self.note(None).await?;
        self.run_or("COMMIT", StoreError::of_commit).await?;
        self.is_done = true;
        self.changes.tell();
        self.open()?.confirm().await
    }

    /// Undoes everything after a statement that failed, which may have done that itself, and keeps the connection with
    /// what it knows. Where that is not certain, the connection is closed.
    pub(super) async fn undo(mut self) {
        if self.is_done || self.is_undone {
            return;
        }
        self.is_done = match self.run("ROLLBACK").await {
            Ok(()) => true,
            Err(StoreError::Refused(text)) => text.contains("no transaction is active"),
            Err(_) => false,
        };
    }

    /// Undoes everything, and keeps the connection with what it knows.
    pub(in crate::store) async fn roll_back(mut self) -> Result<(), StoreError> {
        if self.is_undone {
            return Ok(());
        }
        self.run("ROLLBACK").await?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if !self.is_done {
            self.guard.open = None;
        }
    }
}
