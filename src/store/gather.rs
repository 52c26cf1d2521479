//! Makes all definitions of a mapping from its rows. Each becomes a record as soon as it is complete, because the rows
//! of a large table take many times the memory of its records. Knows no engine.

use std::collections::{HashMap, HashSet};

use super::row::Row;
use super::{Plan, StoreError};
use crate::config::Shape;
use crate::record::Table;

/// Collects the rows of all definitions by key.
pub(super) struct Gather<'p> {
    plan: &'p Plan,
    /// Rows so far.
    count: usize,
    table: Table,
    /// Keys whose row is no value that Redis would keep; a second row is a fault all the same.
    empty: HashSet<Box<[u8]>>,
    /// Of lists and sets, whose rows may lie apart.
    rows: HashMap<Box<[u8]>, Vec<Row>>,
}

/// A preload says how far it is after so many rows.
const PROGRESS_ROWS: usize = 20_000;

impl<'p> Gather<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        Self { plan, count: 0, table: Table::default(), empty: HashSet::new(), rows: HashMap::new() }
    }

    /// Takes the next row.
    pub(super) fn add(&mut self, row: Row) -> Result<(), StoreError> {
        self.count += 1;
        if self.count.is_multiple_of(PROGRESS_ROWS) {
            tracing::info!(mapping = self.plan.mapping.pattern.text(), rows = self.count, "loading definitions");
        }
        let (key, row) = self.plan.own_row(row).ok_or_else(|| {
            StoreError::Refused(format!(
                "row {} has no usable key for '{}': a key column is NULL, empty, holds ':' or is no integer",
                self.count,
                self.plan.mapping.pattern.text()
            ))
        })?;
        if matches!(self.plan.mapping.config.shape, Shape::List | Shape::Set) {
            self.rows.entry(key).or_default().push(row);
            return Ok(());
        }
        if self.table.contains_key(&key) || self.empty.contains(&key) {
            return Err(StoreError::Refused(format!("two rows have the key '{}'", String::from_utf8_lossy(&key))));
        }
        match self.plan.shape(&[row])? {
            Some(record) => drop(self.table.insert(key, record)),
            None => drop(self.empty.insert(key)),
        }
        Ok(())
    }

    /// Every definition.
    pub(super) fn finish(mut self) -> Result<Table, StoreError> {
        for (key, rows) in self.rows {
            if let Some(record) = self.plan.shape(&rows)? {
                self.table.insert(key, record);
            }
        }
        Ok(self.table)
    }
}
