//! `hearthside triggers --install`: makes what is missing, table by table, each in a transaction of its own, so that
//! one table that cannot be had does not keep the others from it.

use std::time::Duration;

use sqlx::PgPool;

use super::interest::{TableInterests, by_table};
use super::locked::run;
use super::present::{judge, missing_columns};
use super::script::of_table;
use crate::mapping::Mapping;
use crate::store::StoreError;

/// What was done, and what could not be, a line each.
#[derive(Debug, Default)]
pub struct Report {
    /// What was done.
    pub done: Vec<String>,
    /// What could not be done, and why.
    pub failed: Vec<String>,
}

impl Report {
    /// Notes what became of one thing, which was to be done like that.
    pub(super) fn note(&mut self, about: &str, outcome: Result<Vec<String>, sqlx::Error>) {
        match outcome {
            Ok(done) => self.done.extend(done),
            Err(error) => self.failed.push(format!("{about}: {}", StoreError::from(error))),
        }
    }
}

/// Makes the triggers that these mappings lack. `patience` is how long one attempt waits for a table's lock.
///
/// # Errors
/// The catalog cannot be asked. What concerns one table is in the report.
pub(in crate::store) async fn install(
    pool: &PgPool,
    mappings: &[Mapping],
    patience: Duration,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    for table in by_table(mappings) {
        of_one(pool, &table, patience, &mut report).await?;
    }
    Ok(report)
}

async fn of_one(
    pool: &PgPool,
    table: &TableInterests,
    patience: Duration,
    report: &mut Report,
) -> Result<(), StoreError> {
    let judged = judge(pool, table).await?;
    if judged.is_empty() {
        report.failed.push(format!("there is no table '{}'", table.table));
    }
    let missing = missing_columns(pool, table).await?;
    if !missing.is_empty() {
        // Its triggers would fail at every change.
        let (table, columns) = (&table.table, missing.join("', '"));
        report.failed.push(format!("table '{table}' has no column '{columns}': no triggers were made for it"));
        return Ok(());
    }
    report.failed.extend(judged.iter().filter_map(|judged| judged.hindrance()));
    if judged.iter().any(|judged| judged.is_lacking()) {
        let made = run(pool, &table.table, &of_table(table), patience).await;
        report.note(&table.table, made.map(|made| made.iter().map(|trigger| format!("made {trigger}")).collect()));
    }
    Ok(())
}
