//! Which mappings are told of changes of which tables, when it is this process that makes the changes (decision 0024).
//! A mapping is told of every table that it watches, by the key where its block says how, and of every other table
//! that its statement reads, as a whole.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqlitePool};

use super::readers::reader;
use crate::store::{Plan, StoreError};

/// What one mapping is told of.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    /// Tables, with the columns behind the key's placeholders; `None` where any change concerns the whole mapping.
    pub(super) tables: Vec<(String, Option<Vec<String>>)>,
    /// The key's literals, around its placeholders.
    pub(super) literals: Vec<String>,
    /// It reads a virtual table, on which there are no triggers: any write may concern it.
    pub(super) reads_virtual: bool,
    /// Its own statements may displace rows (`REPLACE`).
    pub(super) may_replace: bool,
}

/// What each mapping is told of, by its key pattern.
#[derive(Debug, Default)]
pub(super) struct Interests(Mutex<(u64, BTreeMap<String, Interest>)>);

impl Interests {
    fn known(&self) -> MutexGuard<'_, (u64, BTreeMap<String, Interest>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the mapping of this plan is told of the tables that the plan reads.
    pub(super) async fn add(&self, pool: &SqlitePool, plan: &Plan) -> Result<(), StoreError> {
        let interest = interest(pool, plan).await?;
        let mut known = self.known();
        known.0 += 1;
        known.1.insert(plan.mapping().pattern.text().to_owned(), interest);
        Ok(())
    }

    /// Rises with every change of them.
    pub(super) fn edition(&self) -> u64 {
        self.known().0
    }

    /// Their edition, and all of them.
    pub(super) fn all(&self) -> (u64, BTreeMap<String, Interest>) {
        self.known().clone()
    }

    /// The patterns of the mappings that any write may concern.
    pub(super) fn concerned_by_any_write(&self) -> Vec<String> {
        self.known().1.iter().filter(|(_, it)| it.reads_virtual).map(|(pattern, _)| pattern.clone()).collect()
    }
}

async fn interest(pool: &SqlitePool, plan: &Plan) -> Result<Interest, StoreError> {
    let mapping = plan.mapping();
    let select = if plan.one.is_empty() { &plan.all } else { &plan.one };
    let (read, reads_virtual) = tables_read(pool, select).await?;
    let mut tables = mapping.watched();
    for table in read {
        if !tables.iter().any(|(watched, _)| watched.eq_ignore_ascii_case(&table)) {
            tables.push((table, None));
        }
    }
    let statements = [&mapping.config.push, &mapping.config.remove];
    let may_replace = statements.into_iter().flatten().any(|sql| sql.to_ascii_uppercase().contains("REPLACE"));
    Ok(Interest { tables, literals: mapping.pattern.pieces().0, reads_virtual, may_replace })
}

/// The tables that a SELECT reads, and whether it reads a virtual one. SQLite's byte code opens each by its root page,
/// behind views too. Source: <https://www.sqlite.org/opcode.html>
async fn tables_read(pool: &SqlitePool, select: &str) -> Result<(Vec<String>, bool), StoreError> {
    let mut reader = reader(pool).await?;
    let mut transaction = reader.begin().await?;
    let steps = sqlx::query(AssertSqlSafe(format!("EXPLAIN {select}"))).fetch_all(&mut *transaction).await?;
    let (mut pages, mut opens_virtual) = (Vec::new(), false);
    for step in &steps {
        match step.try_get::<String, _>("opcode")?.as_str() {
            "OpenRead" => pages.push(step.try_get_unchecked::<i64, _>("p2")?),
            "VOpen" => opens_virtual = true,
            _ => {}
        }
    }
    let ask = "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE rootpage IN (SELECT value FROM json_each(?1))";
    let tables = sqlx::query_scalar(ask).bind(format!("{pages:?}")).fetch_all(&mut *transaction).await?;
    // Functions that return tables (json_each) are opened alike, and change with their arguments only.
    let ask = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL%')";
    let has_virtual: bool = sqlx::query_scalar(ask).fetch_one(&mut *transaction).await?;
    Ok((tables, opens_virtual && has_virtual))
}
