//! `hearthside triggers --install`: makes what is missing, table by table, each in a transaction of its own, so that
//! one table that cannot be had does not keep the others from it.

use std::time::Duration;

use sqlx::PgPool;

use super::advice::to_make;
use super::function::Function;
use super::interest::{TableInterests, by_table};
use super::locked::run;
use super::means::Means;
use super::outbox;
use super::present::{judge, missing_columns};
use super::script::of_table;
use crate::mapping::Mapping;
use crate::store::StoreError;
use crate::telemetry::Progress;

/// What was done, and what could not be, a line each.
#[derive(Debug, Default)]
pub struct Report {
    /// What was done.
    pub done: Vec<String>,
    /// What could not be done, and why.
    pub failed: Vec<String>,
}

impl Report {
    /// Notes that one thing could not be done, and what helps.
    pub(in crate::store) fn fail(&mut self, about: &str, error: sqlx::Error, advice: &str) {
        self.failed.push(format!("{about}: {}{advice}", StoreError::from(error).in_full()));
    }
}

/// Makes the triggers that these mappings lack. `patience` is how long one attempt waits for a table's lock.
///
/// # Errors
/// The catalog cannot be asked. What concerns one table is in the report.
pub(in crate::store) async fn install(
    pool: &PgPool,
    mappings: &[Mapping],
    means: Means,
    patience: Duration,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    if means == Means::Outbox {
        outbox::install(pool, patience, &mut report).await?;
        if !report.failed.is_empty() {
            // Its triggers would fail at every change.
            return Ok(report);
        }
    }
    let tables = by_table(mappings);
    let progress = Progress::begin("triggers");
    progress.expect(tables.len() as u64);
    for table in tables {
        progress.advance(0, || table.table.clone());
        of_one(pool, &table, means, patience, &mut report).await?;
        progress.advance(1, || table.table.clone());
    }
    Ok(report)
}

/// The code of the error that a name brings about that cannot be read.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const NO_NAME: &str = "42602";

async fn of_one(
    pool: &PgPool,
    table: &TableInterests,
    means: Means,
    patience: Duration,
    report: &mut Report,
) -> Result<(), StoreError> {
    let judged = match judge(pool, table, means).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_NAME) => {
            report.failed.push(format!("'{0}' is no name as SQL writes it; quote it: '\"{0}\"'", table.table));
            return Ok(());
        }
        judged => judged?,
    };
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
        match run(pool, &table.table, &of_table(table, &table.table, means), patience).await {
            Ok(made) => report.done.extend(made.iter().map(|trigger| format!("made {trigger}"))),
            Err(error) => {
                let advice = to_make(pool, &table.table, &Function::of(table, means).name, &error).await;
                report.fail(&table.table, error, &advice);
            }
        }
    }
    Ok(())
}
