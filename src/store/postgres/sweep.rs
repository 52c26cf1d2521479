//! Removes rows that have ended, by the database's own reckoning.

use sqlx::{AssertSqlSafe, PgPool};

use super::zone;
use crate::store::StoreError;
use crate::store::target::Expires;

/// Removes rows that ended longer ago than `grace` seconds, a thousand at most (of a partitioned table perhaps more);
/// how many.
///
/// Each row is judged twice: when it is locked, as it is then, and when it goes. Its place alone (`ctid`) would also be
/// the place of a living row in another partition.
pub(super) async fn sweep(
    pool: &PgPool,
    told: &str,
    (table, expires): (&str, &Expires),
    grace: f64,
) -> Result<u64, StoreError> {
    if let Some(planned) = &expires.zone {
        let now = zone::of(pool, told, table).await?;
        if now.name != *planned || now.doubt.is_some() {
            return Err(StoreError::Refused(format!(
                "the database's time zone has changed from {planned} to {}{}: nothing is swept from {table} by its \
                 column {} until the sidecar is started again",
                now.name,
                now.doubt.map(|doubt| format!(" ({doubt})")).unwrap_or_default(),
                expires.column
            )));
        }
    }
    let ends = zone::moment(&format!("t.{}", expires.column), expires.zone.as_deref());
    let has_ended = format!("{ends} < clock_timestamp() - $1 * interval '1 second'");
    let sql = format!(
        "DELETE FROM {table} AS t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM {table} AS t WHERE {has_ended} \
         LIMIT 1000 FOR UPDATE SKIP LOCKED)) AND {has_ended}"
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).bind(grace).execute(pool).await?.rows_affected())
}
