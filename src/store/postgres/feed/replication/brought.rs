//! A row as a message brings it, and its image, which is made once for all mappings that show it.

use std::cell::OnceCell;
use std::sync::Arc;

use super::concern::Row;
use super::pgoutput::{Tuple, Value};
use super::relations::Known;
use crate::store::logged::{LoggedRow, LoggedValue, RowBudget};

pub(super) struct Brought<'r, 'm> {
    pub(super) row: Row<'r, 'm>,
    table: &'r Known,
    budget: &'r RowBudget,
    image: OnceCell<Option<Arc<LoggedRow>>>,
}

impl<'r, 'm> Brought<'r, 'm> {
    pub(super) const fn new(row: Row<'r, 'm>, table: &'r Known, budget: &'r RowBudget) -> Self {
        Self { row, table, budget, image: OnceCell::new() }
    }

    /// The row as it is now; none where it is gone, or cannot be held.
    pub(super) fn image(&self) -> Option<Arc<LoggedRow>> {
        self.image.get_or_init(|| self.make().map(Arc::new)).clone()
    }

    fn make(&self) -> Option<LoggedRow> {
        let (old, new) = match self.row {
            Row::Gone(_) => return None,
            Row::Come(new) => (None, new),
            Row::Changed { old, new } => (old.filter(|_| self.table.relation.is_full), new),
        };
        let values = new.iter().enumerate().map(|(at, value)| logged(*value, old, at));
        LoggedRow::new(&self.table.columns, values, self.budget)
    }
}

/// A value of a new row. What was not changed stands in the old one, if that is whole.
fn logged<'m>(value: Value<'m>, old: Option<&Tuple<'m>>, at: usize) -> LoggedValue<'m> {
    match (value, old.and_then(|old| old.get(at).copied())) {
        (Value::Null, _) => LoggedValue::Null,
        (Value::Text(text), _) | (Value::Unchanged, Some(Value::Text(text))) => LoggedValue::Text(text),
        (Value::Unchanged, _) => LoggedValue::Unsent,
    }
}
