//! Deferred writes of many rows in one transaction, which compares and raises the journal's note too. Knows no journal
//! file.

use sqlx::sqlite::SqliteConnection;

use super::transaction::SqliteTransaction;
use crate::record::{Change, Condition, Edit, RowEdit, Written};
use crate::store::flush::{Fence, Flushed, KEPT_DAYS, Note, Raised};
use crate::store::{FlushRow, Mark, Plan, StoreError};

/// As `hearthside.journals` in Postgres; `at` is in seconds since 1970.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS hearthside_journals (journal TEXT PRIMARY KEY, \
    applied INTEGER NOT NULL, fence INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT (unixepoch()), \
    successor TEXT) WITHOUT ROWID";

/// Makes the table of notes, or gives one of an older version the column that it lacks.
async fn make_notes(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(NOTES).execute(&mut *connection).await?;
    let ask = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('hearthside_journals') WHERE name = 'successor')";
    if !sqlx::query_scalar::<_, bool>(ask).fetch_one(&mut *connection).await? {
        sqlx::query("ALTER TABLE hearthside_journals ADD COLUMN successor TEXT").execute(connection).await?;
    }
    Ok(())
}

/// Saves the rows if the journal's note lets the batch through.
pub(super) async fn flush(
    mut transaction: SqliteTransaction,
    plan: &Plan,
    rows: &[FlushRow],
    mark: Mark<'_>,
) -> Result<Flushed, StoreError> {
    if let Some(fenced) = fenced(transaction.connection()?, mark).await? {
        transaction.commit().await?;
        return Ok(fenced);
    }
    let mut flushed = Vec::with_capacity(rows.len());
    for row in rows {
        match flush_row(&mut transaction, plan, row).await {
            Ok(written) if written.applied => flushed.push((row.key.clone(), written.new)),
            Ok(_) => {}
            Err(error) => {
                transaction.undo().await;
                return Err(error);
            }
        }
    }
    transaction.commit().await?;
    // One that was suppressed has failed the whole.
    Ok(Flushed::Now { records: flushed, suppressed: Vec::new() })
}

/// Saves one row, if it is there.
async fn flush_row(transaction: &mut SqliteTransaction, plan: &Plan, row: &FlushRow) -> Result<Written, StoreError> {
    if let Some(left) = row.left {
        transaction.set_end(plan, &row.key, left).await?;
    }
    if row.fields.is_empty() {
        transaction.note(Some(&row.key)).await?;
        let new = transaction.load(plan, &row.key).await?;
        return Ok(Written { applied: true, new, ..Written::default() });
    }
    let changes = row.fields.iter().map(|(field, value)| {
        (field.clone(), value.as_ref().map_or(Change::Clear, |value| Change::Put(value.clone())))
    });
    let edit = Edit::Fields(changes.collect(), Condition::RowExists);
    // Whatever its row says: when it ends may be saved later.
    transaction.write(plan, &row.key, RowEdit { lives: true, ..(&edit).into() }).await
}

/// Raises the note to this batch; what stands in the way, if something does.
async fn fenced(connection: &mut SqliteConnection, mark: Mark<'_>) -> Result<Option<Flushed>, StoreError> {
    let raise =
        "UPDATE hearthside_journals SET applied = ?2, fence = ?2, at = unixepoch() WHERE journal = ?1 AND fence < ?2";
    let raised = sqlx::query(raise).bind(mark.journal).bind(mark.batch.cast_signed()).execute(&mut *connection).await;
    let raised = match raised {
        // The table went with all its notes.
        Err(sqlx::Error::Database(refusal)) if refusal.message().contains("no such table: hearthside_journals") => {
            return Ok(Some(Flushed::Fenced(None)));
        }
        raised => raised.map_err(StoreError::of_write)?,
    };
    if raised.rows_affected() > 0 {
        return Ok(None);
    }
    let ask = "SELECT applied, fence FROM hearthside_journals WHERE journal = ?1";
    let note = sqlx::query_as(ask).bind(mark.journal).fetch_optional(connection).await?;
    Ok(Some(Flushed::Fenced(note.map(Note::of))))
}

/// Makes the note of an incarnation and that of one of its strands, and removes what nobody has used for long.
pub(super) async fn enroll(connection: &mut SqliteConnection, journal: &str, strand: &str) -> Result<(), StoreError> {
    make_notes(connection).await?;
    let insert = "INSERT INTO hearthside_journals (journal, applied, fence) VALUES (?1, 0, 0) ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(journal).execute(&mut *connection).await?;
    let insert = "INSERT INTO hearthside_journals (journal, applied, fence) SELECT ?2, 0, fence \
        FROM hearthside_journals WHERE journal = ?1 ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(journal).bind(strand).execute(&mut *connection).await?;
    // An incarnation stays as long as one of its strands.
    let prune = "DELETE FROM hearthside_journals WHERE at < unixepoch('now', ?1) AND NOT EXISTS (SELECT 1 \
        FROM hearthside_journals AS s WHERE substr(s.journal, 1, length(hearthside_journals.journal) + 1) = \
        hearthside_journals.journal || ':' AND s.at >= unixepoch('now', ?1))";
    sqlx::query(prune).bind(format!("-{KEPT_DAYS} days")).execute(connection).await?;
    Ok(())
}

/// Raises the fence of a strand, or of an incarnation with its strands; the last batches that were applied. The table
/// of before is looked up where the incarnation has no note yet.
pub(super) async fn fence(connection: &mut SqliteConnection, fence: Fence<'_>) -> Result<Raised, StoreError> {
    make_notes(connection).await?;
    let ask = "SELECT EXISTS (SELECT 1 FROM hearthside_journals WHERE journal = ?1)";
    let was_noted = sqlx::query_scalar(ask).bind(fence.journal).fetch_one(&mut *connection).await?;
    let before = noted_before(connection, fence.journal, fence.taken).await?;
    let raise = "INSERT INTO hearthside_journals (journal, applied, fence, successor) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT DO UPDATE SET fence = max(fence, excluded.fence), at = unixepoch(), \
        successor = CASE WHEN successor IS NULL OR (successor IN (SELECT value FROM json_each(?5)) AND NOT EXISTS \
        (SELECT 1 FROM hearthside_journals AS h WHERE h.journal = hearthside_journals.successor)) \
        THEN coalesce(excluded.successor, successor) ELSE successor END RETURNING applied, successor";
    let former = serde_json::Value::from(fence.former).to_string();
    let raised = sqlx::query_as(raise).bind(fence.journal).bind(before).bind(fence.until.cast_signed());
    let raised = raised.bind(fence.heir).bind(former);
    let (applied, successor): (i64, Option<String>) = raised.fetch_one(&mut *connection).await?;
    let mut all = vec![applied];
    if fence.heir.is_some() {
        let close = "UPDATE hearthside_journals SET fence = max(fence, ?2), at = unixepoch() \
            WHERE substr(journal, 1, length(?1) + 1) = ?1 || ':' RETURNING applied";
        let close = sqlx::query_scalar::<_, i64>(close).bind(fence.journal).bind(fence.until.cast_signed());
        all.extend(close.fetch_all(connection).await?);
    }
    Ok(Raised { applied: Raised::batches(all), was_noted, successor })
}

/// The highest of the taken batches that an older version of the program has noted; 0: none.
async fn noted_before(connection: &mut SqliteConnection, journal: &str, taken: &[u64]) -> Result<i64, StoreError> {
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'hearthside_flushed')";
    if !sqlx::query_scalar::<_, bool>(is_there).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let ask = "SELECT coalesce(max(batch), 0) FROM hearthside_flushed \
        WHERE journal = ?1 AND batch IN (SELECT value FROM json_each(?2))";
    Ok(sqlx::query_scalar(ask).bind(journal).bind(format!("{taken:?}")).fetch_one(connection).await?)
}
