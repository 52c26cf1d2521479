//! Deferred writes of many rows in one transaction, which notes its batch too.

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;

use super::transaction::SqliteTransaction;
use crate::mapping::Mapping;
use crate::record::{Change, Condition, Edit, Record, Written};
use crate::store::{FlushRow, Mark, Plan, StoreError};

const NOTES: &str = "CREATE TABLE IF NOT EXISTS hearthside_flushed (journal TEXT NOT NULL, batch INTEGER NOT NULL, PRIMARY KEY (journal, batch))";

/// Saves the rows; `None` when the batch has been noted before.
pub(super) async fn flush(
    mut transaction: SqliteTransaction,
    mapping: &Mapping,
    plan: &Plan,
    rows: &[FlushRow],
    mark: Mark<'_>,
) -> Result<Option<Vec<(Bytes, Option<Record>)>>, StoreError> {
    if was_flushed(transaction.connection()?, mark.journal, mark.batch).await? {
        transaction.commit().await?;
        return Ok(None);
    }
    note(transaction.connection()?, mark).await?;
    let mut flushed = Vec::with_capacity(rows.len());
    for row in rows {
        let changes = row.fields.iter().map(|(field, value)| {
            (field.clone(), value.as_ref().map_or(Change::Clear, |value| Change::Put(value.clone())))
        });
        let edit = Edit::Fields(changes.collect(), Condition::RowExists);
        let values: Vec<&[u8]> = row.values.iter().map(|value| &**value).collect();
        if let Some(left) = row.left {
            transaction.set_end(mapping, plan, &values, left).await?;
        }
        let written = if row.fields.is_empty() {
            let new = transaction.load(mapping, plan, &values).await?;
            Written { applied: true, new, ..Written::default() }
        } else {
            transaction.write(mapping, plan, &values, &edit).await?
        };
        if let Some(key) = mapping.pattern.render(&values).filter(|_| written.applied) {
            flushed.push((Bytes::from(key), written.new));
        }
    }
    transaction.commit().await?;
    Ok(Some(flushed))
}

async fn note(connection: &mut SqliteConnection, mark: Mark<'_>) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM hearthside_flushed WHERE journal = ?1 AND batch < ?2",
        "INSERT INTO hearthside_flushed (journal, batch) VALUES (?1, ?2)",
    ] {
        let noted = sqlx::query(sql).bind(mark.journal).bind(mark.batch.cast_signed()).execute(&mut *connection);
        noted.await.map_err(StoreError::of_write)?;
    }
    Ok(())
}

pub(super) async fn was_flushed(
    connection: &mut SqliteConnection,
    journal: &str,
    batch: u64,
) -> Result<bool, StoreError> {
    sqlx::query(NOTES).execute(&mut *connection).await.map_err(StoreError::of_write)?;
    let asked = "SELECT EXISTS (SELECT 1 FROM hearthside_flushed WHERE journal = ?1 AND batch = ?2)";
    Ok(sqlx::query_scalar(asked).bind(journal).bind(batch.cast_signed()).fetch_one(connection).await?)
}
