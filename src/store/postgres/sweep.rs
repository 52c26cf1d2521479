//! Deletes rows that have expired, by the database's own clock.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _};

use super::flush::is_row;
use super::sessions::Sessions;
use super::zone::{has_expired, has_expired_everywhere};
use crate::store::StoreError;
use crate::store::catalog::relation::Surety;
use crate::store::sweep::{Chosen, Ending, RowKey};

/// Of rows `t`: where they come from, and what is true of those that are meant.
///
/// Which zone a session has cannot be known, so that a row is meant only when it has expired in every zone, unless the
/// settings say which one it is. The caller has made sure that no other zone has been set since
/// (`zone::doubt_by_now`).
fn meant(ending: Ending<'_>, chosen: Chosen<'_>) -> (String, String) {
    let Ending { target, plan, .. } = ending;
    let (table, has_expired) = (&target.table, expired(ending));
    let named = "jsonb_array_elements($2::text::jsonb) AS b (r)";
    match chosen {
        Chosen::AllBut([]) => (format!("{table} AS t"), has_expired),
        Chosen::AllBut(_) => {
            let texts: Vec<String> = target.keys.iter().map(|key| format!("t.{key}::text")).collect();
            let named_texts: Vec<String> = (0..texts.len()).map(|at| format!("b.r ->> {at}")).collect();
            let (texts, named_texts) = (texts.join(", "), named_texts.join(", "));
            let is_other = format!("(({texts}) IN (SELECT {named_texts} FROM {named})) IS NOT TRUE");
            (format!("{table} AS t"), format!("{has_expired} AND {is_other}"))
        }
        Chosen::Only(_) => {
            (format!("{table} AS t, {named}"), format!("{has_expired} AND {}", is_row(plan, target, "b.r")))
        }
    }
}

fn expired(ending: Ending<'_>) -> String {
    let before = "clock_timestamp() - $1 * interval '1 second'";
    match ending.expires.surety {
        Surety::Stated => has_expired(ending.expires, before),
        Surety::Found | Surety::Doubted => has_expired_everywhere(ending.expires, before),
    }
}

fn bound<'q>(
    sql: String,
    sessions: &Sessions,
    ending: Ending<'_>,
    chosen: Chosen<'_>,
) -> Query<'q, Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(sessions.keep_statements()).bind(ending.grace);
    match chosen.named() {
        Some(keys) => query.bind(keys),
        None => query,
    }
}

/// Deletes rows that have expired, a thousand at most (of a partitioned table perhaps more); how many.
///
/// Each row is judged twice: when it is locked, as it is then, and when it goes. Its place alone (`ctid`) would also be
/// the place of a living row in another partition.
pub(super) async fn sweep(
    pool: &PgPool,
    sessions: &Sessions,
    ending: Ending<'_>,
    chosen: Chosen<'_>,
) -> Result<u64, StoreError> {
    let ((from, is_meant), table) = (meant(ending, chosen), &ending.target.table);
    let sql = format!(
        "DELETE FROM {table} AS t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM {from} WHERE {is_meant} \
         LIMIT 1000 FOR UPDATE SKIP LOCKED)) AND {}",
        expired(ending)
    );
    let mut connection = pool.acquire().await?;
    let mut unit = sessions.enter(&mut connection).await?;
    let deleted = bound(sql, sessions, ending, chosen).execute(&mut *unit).await;
    Ok(unit.leave(deleted, |error| error).await?.rows_affected())
}

/// The keys of rows that have expired, a thousand at most.
pub(super) async fn keys(
    pool: &PgPool,
    sessions: &Sessions,
    ending: Ending<'_>,
    chosen: Chosen<'_>,
) -> Result<Vec<RowKey>, StoreError> {
    let (from, is_meant) = meant(ending, chosen);
    let texts: Vec<String> = ending.target.keys.iter().map(|key| format!("t.{key}::text")).collect();
    let sql = format!("SELECT jsonb_build_array({})::text FROM {from} WHERE {is_meant} LIMIT 1000", texts.join(", "));
    let mut connection = pool.acquire().await?;
    let mut unit = sessions.enter(&mut connection).await?;
    let rows = bound(sql, sessions, ending, chosen).fetch_all(&mut *unit).await;
    let rows = unit.leave(rows, |error| error).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?)
}
