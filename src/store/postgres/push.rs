//! RPUSH and LREM on a list whose mapping has statements for them: the statement, and the load of the list afterwards,
//! in one transaction. Knows no table.

use sqlx::{AssertSqlSafe, Connection as _};

use super::expression::MARK;
use super::params::bind;
use super::rows::{parse_all, select};
use super::write::{NO_KEY, Writer};
use crate::record::{Edit, Written};
use crate::store::StoreError;
use crate::store::catalog::target::text;
use crate::store::plan::Plan;

/// Runs the mapping's statement for each element, or once for LREM.
///
/// # Errors
/// As a write; [`StoreError::Refused`] when the mapping has no such statement.
pub(super) async fn write(
    writer: &mut Writer<'_>,
    plan: &Plan,
    key: &[u8],
    edit: &Edit,
) -> Result<Written, StoreError> {
    let bound = bind(plan, key).ok_or_else(|| StoreError::Refused(NO_KEY.into()))?;
    let list = plan.list_edit(edit)?;
    let mut transaction = writer.connection.begin().await.map_err(StoreError::of_write)?;
    let keep = writer.sessions.keep_statements();
    let origin = sqlx::query(AssertSqlSafe(format!("SELECT {MARK}"))).persistent(keep);
    origin.bind(writer.origin).execute(&mut *transaction).await.map_err(StoreError::of_write)?;
    let mut moved = 0;
    for element in list.elements {
        let query = sqlx::query(AssertSqlSafe(list.sql.to_owned())).persistent(keep);
        let query = bound.iter().fold(query, |query, value| query.bind(value.clone()));
        let mut query = query.bind(text(element, "the element")?);
        if let Some(count) = list.count {
            query = query.bind(count);
        }
        moved += query.execute(&mut *transaction).await.map_err(StoreError::of_write)?.rows_affected();
    }
    let rows = select(&mut *transaction, writer.sessions, &plan.one, &bound).await.map_err(StoreError::of_write)?;
    let new = plan.record(key, parse_all(&rows)?)?;
    // An error behind this one could not undo it.
    transaction.commit().await.map_err(StoreError::of_write)?;
    Ok(Written { old: None, new, applied: moved > 0, count: moved, tells_new: true })
}
