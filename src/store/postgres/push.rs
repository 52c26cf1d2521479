//! RPUSH and LREM on a list whose mapping says how: its statements and the load of the list of afterwards, in one transaction.

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection as _};

use super::params::Bound;
use super::write::Writer;
use super::{parse, rows_as_json};
use crate::mapping::Mapping;
use crate::record::{Edit, Written};
use crate::store::StoreError;
use crate::store::plan::Plan;
use crate::store::target::text;

/// Runs the mapping's statement for each element, or once for LREM.
///
/// # Errors
/// As a write; [`StoreError::Refused`] when the mapping has no such statement.
pub(super) async fn write(
    writer: &mut Writer<'_>,
    mapping: &Mapping,
    plan: &Plan,
    holes: (&[&[u8]], Vec<Bound>),
    edit: &Edit,
) -> Result<Written, StoreError> {
    let one: &[Bytes];
    let (sql, elements, count) = match edit {
        Edit::Push(elements) => (&plan.list.push, elements.as_slice(), None),
        Edit::Pull(count, element) => {
            one = std::slice::from_ref(element);
            (&plan.list.remove, one, Some(*count))
        }
        _ => return Err(StoreError::Refused("a list takes elements only".into())),
    };
    let Some(statement) = sql else {
        return Err(StoreError::Refused("the mapping has no statement for that (push, remove)".into()));
    };
    let (values, bound) = holes;
    let mut transaction = writer.connection.begin().await.map_err(StoreError::of_write)?;
    let origin = sqlx::query("SELECT set_config('hearthside.origin', $1, true)").bind(writer.origin);
    origin.execute(&mut *transaction).await.map_err(StoreError::of_write)?;
    let mut moved = 0;
    for element in elements {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
        for value in &bound {
            query = query.bind(value.clone());
        }
        query = query.bind(text(element, "the element")?);
        if let Some(count) = count.filter(|_| statement.takes_count) {
            query = query.bind(count);
        }
        moved += query.execute(&mut *transaction).await.map_err(StoreError::of_write)?.rows_affected();
    }
    let rows = rows_as_json(&mut *transaction, plan, &bound).await.map_err(StoreError::of_write)?;
    transaction.commit().await.map_err(StoreError::of_write)?;
    let rows = rows.iter().map(|json| parse(json)).collect::<Result<Vec<_>, _>>()?;
    let new = plan.record(&mapping.pattern, values, rows)?;
    Ok(Written { old: None, new, applied: moved > 0, count: moved, tells_new: true })
}
