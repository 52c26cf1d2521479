//! The statements that would write to a mapping's table, read by the server and not run. What it does not take of them
//! is found by `check` then, and not by the first client that writes.

use bytes::Bytes;

use super::catalog::PostgresCatalog;
use super::flush;
use super::statement::{Statement, Statements};
use super::upsert::upsert;
use crate::config::{DeleteMode, Shape};
use crate::record::{Change, Condition};
use crate::store::StoreError;
use crate::store::catalog::described::Param;
use crate::store::catalog::target::{FieldChange, Place};
use crate::store::plan::Plan;

/// Has the server read each of them.
///
/// # Errors
/// Its own, for the first that it does not take.
pub(super) async fn rehearse(catalog: PostgresCatalog<'_>, plan: &Plan) -> Result<(), StoreError> {
    if plan.target.is_none() {
        return Ok(());
    }
    for Statement { sql, values } in statements(plan)? {
        let (origin, values) = (std::iter::once(Param::Text), values.iter().map(|_| Param::Text));
        let params: Vec<Param> = origin.chain(plan.params.iter().cloned()).chain(values).collect();
        catalog.takes(&sql, &params).await?;
    }
    if plan.mapping.config.defers() {
        let flush = flush::of_everything(plan)?;
        catalog.takes(&flush, &[Param::Text, Param::Text, Param::Int(8), Param::Text]).await?;
    }
    Ok(())
}

/// Those of single keys.
fn statements(plan: &Plan) -> Result<Vec<Statement>, StoreError> {
    let (of, block) = (Statements::of(plan)?, &plan.mapping.config);
    let mut all: Vec<Statement> = of.bury(false).into_iter().collect();
    if block.delete == DeleteMode::Row {
        all.extend([of.delete(), of.there()]);
    }
    if !block.writes_table() {
        return Ok(all);
    }
    if block.shape == Shape::Set {
        all.extend([of.members(&[], true)?, of.members(&[], false)?]);
        return Ok(all);
    }
    let put = Change::Put(Bytes::new());
    let columns = of.target.columns.iter().map(|column| match of.target.overflow.as_ref() {
        Some(overflow) if overflow.name == column.name => ("a member", Place::Member(overflow)),
        _ => (column.name.as_str(), Place::Column(column)),
    });
    let changes: Vec<FieldChange<'_>> =
        columns.map(|(field, place)| FieldChange { field, place, change: &put }).collect();
    if !changes.is_empty() {
        all.extend([upsert(of, &changes, Condition::Always, Some(0))?, of.taken()]);
    }
    Ok(all)
}
