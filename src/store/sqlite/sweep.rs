//! Deletes rows that have expired, by the database's own clock.
//!
//! By the key's columns: a table need have no rowid, and a column of that name may be anything. Each row is judged
//! itself, because rows of one key may differ; one without a value in such a column has no key, and stays.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Row as _, Sqlite};

use crate::store::StoreError;
use crate::store::sweep::{Chosen, Ending, RowKey};

/// What is true of the rows that are meant.
fn is_meant(ending: Ending<'_>, chosen: Chosen<'_>) -> String {
    let keys = &ending.target.keys;
    let (has_key, has_ended) = (format!("{} IS NOT NULL", keys.join(" IS NOT NULL AND ")), has_ended(ending));
    let named: Vec<String> = (0..keys.len()).map(|at| format!("value ->> {at}")).collect();
    let is_named = format!("({}) IN (SELECT {} FROM json_each(?2))", keys.join(", "), named.join(", "));
    match chosen {
        Chosen::AllBut([]) => format!("{has_key} AND {has_ended}"),
        Chosen::AllBut(_) => format!("{has_key} AND {has_ended} AND NOT {is_named}"),
        Chosen::Only(_) => format!("{has_key} AND {has_ended} AND {is_named}"),
    }
}

fn has_ended(ending: Ending<'_>) -> String {
    format!("unixepoch({}, 'subsec') < unixepoch('now', 'subsec') - ?1", ending.expires.column)
}

fn bound<'q>(sql: String, ending: Ending<'_>, chosen: Chosen<'_>) -> Query<'q, Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(sql)).bind(ending.grace);
    match chosen.named() {
        Some(keys) => query.bind(keys),
        None => query,
    }
}

/// Deletes rows that have expired, those of a thousand keys at most; how many.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    ending: Ending<'_>,
    chosen: Chosen<'_>,
) -> Result<u64, StoreError> {
    let (table, keys) = (&ending.target.table, ending.target.keys.join(", "));
    let sql = format!(
        "DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {} LIMIT 1000) AND {}",
        is_meant(ending, chosen),
        has_ended(ending)
    );
    Ok(bound(sql, ending, chosen).execute(connection).await.map_err(StoreError::of_write)?.rows_affected())
}

/// The keys of rows that have expired, a thousand at most.
pub(super) async fn keys(
    connection: &mut SqliteConnection,
    ending: Ending<'_>,
    chosen: Chosen<'_>,
) -> Result<Vec<RowKey>, StoreError> {
    let (table, keys) = (&ending.target.table, ending.target.keys.join(", "));
    let sql = format!("SELECT json_array({keys}) FROM {table} WHERE {} LIMIT 1000", is_meant(ending, chosen));
    let rows = bound(sql, ending, chosen).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?)
}
