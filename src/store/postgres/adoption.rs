//! Whole records of keys that have no row, inserted in a transaction: many hashes or strings by one statement, many
//! sets by another one. Knows how rows are taken back, not when.
//!
//! A row has the number of the transaction that has written it last (`xmin`): what was inserted is taken back only
//! while that is the one that has inserted it.
//! Source: <https://www.postgresql.org/docs/current/ddl-system-columns.html>

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::adopt_statement::{Form, ROWS, as_row, form, insert, insert_sets, key_texts, keys};
use super::expression::origin;
use super::flush::{Gathered, has_column, is_row};
use super::rows::parse;
use super::zone::{has_expired, has_expired_everywhere};
use crate::store::adopt::{Foreign, Inserted, members};
use crate::store::catalog::target::{Target, text};
use crate::store::dialect::literal;
use crate::store::{Plan, StoreError};
use crate::telemetry::planted::is_planted;

/// Why a statement was not carried out.
pub(super) enum Trouble {
    Driver(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Store(error) => error,
            Trouble::Driver(error) => Self::of_write(error),
        }
    }
}

/// Statements of one mapping in a transaction.
pub(super) struct Adoption<'d> {
    pub(super) connection: &'d mut PgConnection,
    pub(super) plan: &'d Plan,
    pub(super) origin: &'d str,
    /// Statements stay prepared.
    pub(super) keep: bool,
}

impl Adoption<'_> {
    /// Runs a statement of the origin and these rows.
    async fn run(&mut self, sql: String, rows: Vec<Value>) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.keep);
        query.bind(self.origin).bind(Value::from(rows).to_string()).fetch_all(&mut *self.connection).await
    }

    /// Inserts hashes or strings.
    pub(super) async fn rows(&mut self, foreign: &[Foreign]) -> Result<Vec<Option<Inserted>>, Trouble> {
        let (plan, target) = (self.plan, self.plan.target()?);
        let places: HashMap<&Bytes, usize> = foreign.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
        let mut forms: BTreeMap<Form, Vec<Value>> = BTreeMap::new();
        let mut gathered = Gathered::default();
        for (key, record) in foreign {
            let row = gathered.row(plan, target, &as_row(key, record))?;
            forms.entry(form(target, &row, record)).or_default().push(row);
        }
        if gathered.has_members {
            self.expect_members(target, forms.values().flatten().cloned().collect()).await?;
        }
        let mut inserted = vec![None; foreign.len()];
        for (form, rows) in forms {
            for row in self.run(insert(plan, target, &form), rows).await? {
                let (key, record) = match plan.keyed(parse(row.try_get(0)?)?)? {
                    Some(keyed) => keyed,
                    None => continue,
                };
                if let Some(at) = places.get(&key) {
                    let record = record.unwrap_or_else(|| foreign[*at].1.clone());
                    inserted[*at] = Some(Inserted { record, by: Some(row.try_get(1)?) });
                }
            }
        }
        Ok(inserted)
    }

    /// Refuses members of the overflow column that are columns by now.
    async fn expect_members(&mut self, target: &Target, rows: Vec<Value>) -> Result<(), Trouble> {
        let ask = format!("SELECT {} AND $1::text IS NOT NULL", has_column(&target.table, "$2"));
        let told = self.run(ask, rows).await?;
        let is_column: bool = told.first().map_or(Ok(false), |row| row.try_get(0))?;
        if is_column { Err(StoreError::member_is_column().into()) } else { Ok(()) }
    }

    /// Nobody else inserts a whole record of one of these keys until the transaction ends. Always in one order, so that
    /// two do not wait for each other.
    pub(super) async fn lock(&mut self, foreign: &[Foreign]) -> Result<(), Trouble> {
        if is_planted("adopt-unlocked") {
            return Ok(());
        }
        let name = |(key, _): &Foreign| Value::from(String::from_utf8_lossy(key));
        let sql = format!(
            "SELECT pg_advisory_xact_lock(lock) FROM (SELECT DISTINCT hashtextextended({} || v, 0) AS lock \
             FROM jsonb_array_elements_text($2::text::jsonb) AS v WHERE $1::text IS NOT NULL ORDER BY 1) AS locks",
            literal(self.plan.mapping.pattern.text()),
        );
        self.run(sql, foreign.iter().map(name).collect()).await?;
        Ok(())
    }

    /// Inserts the members of sets that have none.
    pub(super) async fn sets(&mut self, foreign: &[Foreign]) -> Result<Vec<Option<Inserted>>, Trouble> {
        // Behind a lock of its own a statement sees what whoever had the lock before has done.
        self.lock(foreign).await?;
        let (plan, target, column) = (self.plan, self.plan.target()?, self.plan.member_column()?);
        let row = |(key, record): &Foreign| {
            let members = members(record);
            let texts: Vec<&str> = members.iter().map(|it| text(it, &column.name)).collect::<Result<_, _>>()?;
            Ok(json!({ "k": key_texts(plan, key)?, "v": texts }))
        };
        let rows = foreign.iter().map(row).collect::<Result<Vec<_>, StoreError>>()?;
        let mut inserted = vec![None; foreign.len()];
        for row in self.run(insert_sets(plan, target, column), rows).await? {
            let number: i64 = row.try_get(0)?;
            let at = usize::try_from(number - 1).ok().filter(|at| *at < foreign.len());
            if let Some(at) = at {
                inserted[at] = Some(Inserted { record: foreign[at].1.clone(), by: Some(row.try_get(1)?) });
            }
        }
        Ok(inserted)
    }

    /// Deletes rows that have expired; `in_doubt`: whichever zone their column means.
    pub(super) async fn bury(&mut self, foreign: &[Foreign], in_doubt: bool) -> Result<u64, Trouble> {
        let (plan, target) = (self.plan, self.plan.target()?);
        let Some(expires) = &target.expires else { return Ok(0) };
        let has_expired = if in_doubt { has_expired_everywhere } else { has_expired };
        let sql = format!(
            "WITH {}, gone AS (DELETE FROM {} AS t USING origin, {ROWS} WHERE {} AND {} RETURNING 1) \
             SELECT count(*) FROM gone",
            origin(),
            target.table,
            is_row(plan, target, "b.r -> 'k'"),
            has_expired(expires, "clock_timestamp()"),
        );
        let told = self.run(sql, keys(plan, foreign)?).await?;
        let count: i64 = told.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(count.unsigned_abs())
    }

    /// The numbers of those keys that have a row, whatever it shows.
    pub(super) async fn taken(&mut self, foreign: &[Foreign]) -> Result<Vec<i64>, Trouble> {
        let (plan, target) = (self.plan, self.plan.target()?);
        let sql = format!(
            "SELECT b.n FROM {ROWS} WHERE $1::text IS NOT NULL AND EXISTS (SELECT 1 FROM {} AS t WHERE {})",
            target.table,
            is_row(plan, target, "b.r -> 'k'"),
        );
        let told = self.run(sql, keys(plan, foreign)?).await?;
        Ok(told.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Deletes rows that still are as they were inserted; the numbers of their keys.
    pub(super) async fn retract(&mut self, inserted: &[(Bytes, Inserted)]) -> Result<Vec<i64>, Trouble> {
        let (plan, target) = (self.plan, self.plan.target()?);
        let row = |(key, one): &(Bytes, Inserted)| Ok(json!({ "k": key_texts(plan, key)?, "x": one.by }));
        let rows = inserted.iter().map(row).collect::<Result<Vec<_>, StoreError>>()?;
        let sql = format!(
            "WITH {}, gone AS (DELETE FROM {} AS t USING origin, {ROWS} WHERE {} AND t.xmin::text = b.r ->> 'x' \
             RETURNING b.n) SELECT DISTINCT n FROM gone",
            origin(),
            target.table,
            is_row(plan, target, "b.r -> 'k'"),
        );
        Ok(self.run(sql, rows).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }
}
