//! Deletes rows that have expired, by the database's own clock. Knows no key.

use sqlx::{AssertSqlSafe, PgPool};

use super::sessions::Sessions;
use super::zone::{has_expired, has_expired_everywhere};
use crate::store::StoreError;
use crate::store::catalog::relation::Surety;
use crate::store::catalog::target::Expires;

/// Deletes rows that expired longer ago than `grace` seconds, a thousand at most (of a partitioned table perhaps more);
/// how many.
///
/// Each row is judged twice: when it is locked, as it is then, and when it goes. Its place alone (`ctid`) would also be
/// the place of a living row in another partition. Which zone a session has cannot be known, so that a row goes only
/// when it has expired in every zone, unless the settings say which one it is. The caller has made sure that no other
/// zone has been set since (`zone::doubt_by_now`).
pub(super) async fn sweep(
    pool: &PgPool,
    sessions: &Sessions,
    table: &str,
    expires: &Expires,
    grace: f64,
) -> Result<u64, StoreError> {
    let before = "clock_timestamp() - $1 * interval '1 second'";
    let has_expired = match expires.surety {
        Surety::Stated => has_expired(expires, before),
        Surety::Found | Surety::Doubted => has_expired_everywhere(expires, before),
    };
    let sql = format!(
        "DELETE FROM {table} AS t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM {table} AS t WHERE {has_expired} \
         LIMIT 1000 FOR UPDATE SKIP LOCKED)) AND {has_expired}"
    );
    let delete = sqlx::query(AssertSqlSafe(sql)).persistent(sessions.keep_statements()).bind(grace);
    let mut connection = pool.acquire().await?;
    let mut unit = sessions.enter(&mut connection).await?;
    let deleted = delete.execute(&mut *unit).await;
    Ok(unit.leave(deleted, |error| error).await?.rows_affected())
}
