//! Rows as JSON texts, as the statements of plans select them. Knows no mapping.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgExecutor};

use super::params;
use super::sessions::Sessions;
use crate::store::json::Members;
use crate::store::row::Row;
use crate::store::{Plan, StoreError};

/// Loads the rows of one key, each as JSON text.
pub(super) async fn load(
    sessions: &Sessions,
    connection: &mut PgConnection,
    plan: &Plan,
    bound: &[params::Bound],
) -> Result<Vec<String>, sqlx::Error> {
    let mut unit = sessions.enter(connection).await?;
    let rows = rows_as_json(&mut *unit, sessions, plan, bound).await;
    unit.leave(rows, |error| error).await
}

/// The rows of one key, each as JSON text.
pub(super) async fn rows_as_json<'e>(
    executor: impl PgExecutor<'e>,
    sessions: &Sessions,
    plan: &Plan,
    bound: &[params::Bound],
) -> Result<Vec<String>, sqlx::Error> {
    let query = sqlx::query_scalar(AssertSqlSafe(plan.one.clone())).persistent(sessions.keep_statements());
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
