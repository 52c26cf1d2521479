//! Rows as JSON texts, as the statements of plans select them. Knows no mapping.

use sqlx::postgres::{PgConnection, PgExecutor, Postgres};
use sqlx::{AssertSqlSafe, Decode, Type};

use super::params::Bound;
use super::sessions::Sessions;
use crate::store::StoreError;
use crate::store::json::Members;
use crate::store::row::Row;

/// What a statement selects, of one column, in a session of its own.
pub(super) async fn fetch<T>(
    sessions: &Sessions,
    connection: &mut PgConnection,
    sql: &str,
    bound: &[Bound],
) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin,
{
    let mut unit = sessions.enter(connection).await?;
    let values = select(&mut *unit, sessions, sql, bound).await;
    unit.leave(values, |error| error).await
}

/// The same of an executor that is in a session already.
pub(super) async fn select<'e, T>(
    executor: impl PgExecutor<'e>,
    sessions: &Sessions,
    sql: &str,
    bound: &[Bound],
) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin,
{
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).persistent(sessions.keep_statements());
    bound.iter().fold(query, |query, value| query.bind(value.clone())).fetch_all(executor).await
}

/// Reads each of these texts.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_all<'r>(rows: impl IntoIterator<Item = &'r String>) -> Result<Vec<Row>, StoreError> {
    rows.into_iter().map(|json| parse(json)).collect()
}

/// Reads one row.
///
/// # Errors
/// [`StoreError::Refused`] of what is no JSON object.
pub(super) fn parse(json: &str) -> Result<Row, StoreError> {
    serde_json::from_str(json)
        .map(|Members(row)| row)
        .map_err(|error| StoreError::Refused(format!("a row is no JSON object: {error}")))
}
