//! Deferred writes of many rows as one statement, which compares and raises the journal's note too. Knows no journal
//! file.
//!
//! Source: <https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING>,
//! <https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED>

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _};

use super::expression::{is_column, origin};
use super::params::bind;
use super::rows::{fetch, parse, parse_all};
use super::sessions::Sessions;
use crate::config::WriteMode;
use crate::record::Record;
use crate::store::catalog::relation::Column;
use crate::store::catalog::target::{Place, Target, text};
use crate::store::dialect::{Dialect, held, literal};
use crate::store::flush::{Flushed, Note};
use crate::store::{FlushRow, Mark, Plan, StoreError};
use crate::telemetry::planted::is_planted;

/// So long is asked, behind a flush, what became of rows that it has not changed: less than what a flush may take
/// beyond the deadlines of its own statement.
const PATIENCE: Duration = Duration::from_millis(800);

/// The rows as JSON: `k` the key's texts, `f` columns, `m` members of the overflow column, `e` milliseconds to live;
/// null takes a value away. And what of a row they write.
#[derive(Default)]
pub(super) struct Gathered {
    rows: Vec<Value>,
    /// Names of columns.
    columns: BTreeSet<String>,
    pub(super) has_members: bool,
    has_left: bool,
}

impl Gathered {
    fn of(plan: &Plan, target: &Target, rows: &[FlushRow]) -> Result<Self, StoreError> {
        let mut gathered = Self::default();
        for row in rows {
            let row = gathered.row(plan, target, row)?;
            gathered.rows.push(row);
        }
        Ok(gathered)
    }

    /// One row as JSON; what it writes is noted.
    pub(super) fn row(&mut self, plan: &Plan, target: &Target, row: &FlushRow) -> Result<Value, StoreError> {
        let values = plan.values(&row.key).unwrap_or_default();
        let key = values.into_iter().map(|value| text(value, "").map(Value::from)).collect::<Result<Vec<_>, _>>()?;
        let (mut columns, mut members) = (Map::new(), Map::new());
        for (field, value) in &row.fields {
            let field = text(field, "")?;
            let value = value.as_ref().map(|value| text(value, field).map(Value::from)).transpose()?;
            let value = value.unwrap_or(Value::Null);
            match target.place(field, &plan.mapping.config)? {
                Place::Column(column) => drop(columns.insert(column.name.clone(), value)),
                Place::Member(_) => drop(members.insert(field.to_owned(), value)),
            }
        }
        self.columns.extend(columns.keys().cloned());
        self.has_members |= !members.is_empty();
        let mut json = serde_json::json!({ "k": key, "f": columns, "m": members });
        if let Some(left) = row.left {
            self.has_left = true;
            json["e"] = left.into();
        }
        Ok(json)
    }

    /// What is set in each row, by what stands of it in `b`.
    fn sets(&self, target: &Target) -> Vec<String> {
        let columns = target.columns.iter().filter(|column| self.columns.contains(&column.name)).map(set_column);
        let members = target.overflow.iter().filter(|_| self.has_members).map(set_members);
        let expires = target.expires.iter().filter(|_| self.has_left).map(|expires| {
            let column = &expires.column;
            let end = "clock_timestamp() + (b.r ->> 'e')::float8 * interval '1 millisecond'";
            let end = held(end, expires.zone.as_deref());
            format!("{column} = CASE WHEN b.r ? 'e' THEN {end} ELSE t.{column} END")
        });
        columns.chain(members).chain(expires).collect()
    }
}

fn set_column(column: &Column) -> String {
    let (name, key) = (column.quoted(), literal(&column.name));
    let value = Dialect::Postgres.value(column, &format!("(b.r -> 'f' ->> {key})"));
    format!("{name} = CASE WHEN b.r -> 'f' ? {key} THEN {value} ELSE t.{name} END")
}

fn set_members(overflow: &Column) -> String {
    let name = overflow.quoted();
    format!(
        "{name} = CASE WHEN b.r -> 'm' = '{{}}' THEN t.{name} ELSE \
         CAST((coalesce(t.{name}::jsonb, '{{}}') || jsonb_strip_nulls(b.r -> 'm')) \
         - ARRAY(SELECT key FROM jsonb_each(b.r -> 'm') WHERE value = 'null') AS {}) END",
        overflow.cast,
    )
}

/// Nothing of the table is looked for before the note is raised, and that waits for any other statement of the journal:
/// each row of the join needs the one that the fence gives. Rows changed meanwhile are read again (READ COMMITTED).
///
/// Gives the rows that it has changed, each with the numbers of all that were there when it began; these are `NULL`
/// where all came back. They stand first, where the table's name is none of the statement's own.
fn statement(plan: &Plan, target: &Target, gathered: &Gathered) -> String {
    let ours = is_row(plan, target, "b.r -> 'k'");
    let Target { table, shown, .. } = target;
    format!(
        "WITH there AS (SELECT b.n FROM {table} AS t, \
         jsonb_array_elements($4::text::jsonb) WITH ORDINALITY AS b (r, n) WHERE {ours}), {}, \
         fence AS (UPDATE hearthside.journals SET applied = $3, fence = greatest(fence, $3), at = now() \
         WHERE journal = $2 AND {}{} RETURNING journal), \
         b AS MATERIALIZED (SELECT r FROM jsonb_array_elements($4::text::jsonb) AS r), \
         changed AS (UPDATE {table} AS t SET {} FROM fence, b, origin WHERE {ours} RETURNING t.*) \
         SELECT row_to_json(r.*)::text, CASE WHEN (SELECT count(*) FROM changed) < (SELECT count(*) FROM b) \
         THEN ARRAY(SELECT n FROM there) END \
         FROM fence LEFT JOIN (SELECT {shown} FROM changed) AS r ON true",
        origin(),
        if is_planted("no-fence") { "true" } else { "fence < $3" },
        if gathered.has_members { format!(" AND NOT {}", has_column(table, "$4")) } else { String::new() },
        gathered.sets(target).join(", "),
    )
}

/// Whether a row `t` has the key whose texts this array of JSON holds.
pub(super) fn is_row(plan: &Plan, target: &Target, texts: &str) -> String {
    let keys = target.keys.iter().zip(&target.key_casts).zip(&plan.params).enumerate();
    let ours = keys.map(|(i, ((key, cast), param))| {
        let compared = Dialect::Postgres.compared(&format!("t.{key}"), param);
        format!("{compared} = CAST({texts} ->> {i} AS {cast}) AND t.{key}::text = {texts} ->> {i}")
    });
    ours.collect::<Vec<_>>().join(" AND ")
}

/// Whether a member of the overflow column among the rows of this parameter is a column of the table now.
pub(super) fn has_column(table: &str, rows: &str) -> String {
    is_column(table, &format!("SELECT jsonb_object_keys(r -> 'm') FROM jsonb_array_elements({rows}::text::jsonb) AS r"))
}

/// The statement that writes every deferred field of a row.
///
/// # Errors
/// [`StoreError::Refused`] of a mapping that takes no writes.
pub(super) fn of_everything(plan: &Plan) -> Result<String, StoreError> {
    let (target, block) = (plan.target()?, &plan.mapping.config);
    let is_member = |column: &Column| target.overflow.as_ref().is_some_and(|overflow| overflow.name == column.name);
    let is_deferred = |column: &&Column| {
        !is_member(column) && (block.write == WriteMode::Deferred || block.deferred.contains(&column.name))
    };
    let columns = target.columns.iter().filter(is_deferred).map(|column| column.name.clone()).collect();
    let has_members = target.overflow.is_some();
    let gathered = Gathered { rows: Vec::new(), columns, has_members, has_left: true };
    Ok(statement(plan, target, &gathered))
}

/// Saves the rows if the journal's note lets the batch through.
pub(super) async fn flush(
    pool: &PgPool,
    sessions: &Sessions,
    plan: &Plan,
    rows: &[FlushRow],
    mark: Mark<'_>,
) -> Result<Flushed, StoreError> {
    let target = plan.target()?;
    let gathered = Gathered::of(plan, target, rows)?;
    let sql = statement(plan, target, &gathered);
    let Gathered { rows: sent, has_members, .. } = gathered;
    let sent = Value::from(sent).to_string();
    // Where there is none, nothing has been sent.
    let mut connection = pool.acquire().await?;
    let mut unit = sessions.enter(&mut connection).await?;
    let saved = sqlx::query(AssertSqlSafe(sql))
        .persistent(sessions.keep_statements())
        .bind(mark.origin)
        .bind(mark.journal)
        .bind(mark.batch.cast_signed())
        .bind(&sent)
        .fetch_all(&mut *unit)
        .await
        .map_err(StoreError::of_write);
    let saved = unit.leave(saved, StoreError::of_write).await?;
    if saved.is_empty() {
        // The statement's own view of the note is older than the lock that it waited for.
        let is_column = if has_members { has_column(&target.table, "$2") } else { "$2::text IS NULL".to_owned() };
        let ask = format!("SELECT applied, fence, {is_column} FROM hearthside.journals WHERE journal = $1");
        let ask = sqlx::query_as(AssertSqlSafe(ask)).persistent(sessions.keep_statements()).bind(mark.journal);
        let mut unit = sessions.enter(&mut connection).await?;
        let note = ask.bind(&sent).fetch_optional(&mut *unit).await.map_err(StoreError::of_write);
        let note: Option<(i64, i64, bool)> = unit.leave(note, StoreError::of_write).await?;
        let note = note.map(|(applied, fence, is_column)| (Note::of((applied, fence)), is_column));
        return match note {
            // Not the fence has stopped it.
            Some((note, true)) if note.fence < mark.batch => Err(StoreError::member_is_column()),
            note => Ok(Flushed::Fenced(note.map(|(note, _)| note))),
        };
    }
    // It is committed: what cannot be read now is asked of the note, by the same batch.
    let records = records(plan, &saved).map_err(|error| StoreError::Ambiguous(error.to_string()))?;
    let untouched = untouched(rows, &saved, &records);
    let suppressed = suppressed(sessions, connection, plan, untouched).await;
    Ok(Flushed::Now { records, suppressed })
}

/// The keys and records of the rows that were changed.
fn records(plan: &Plan, saved: &[PgRow]) -> Result<Vec<(Bytes, Option<Record>)>, StoreError> {
    let mut records = Vec::with_capacity(saved.len());
    for row in saved {
        // Where no row of the table was there, the fence alone comes back.
        if let Some(json) = row.try_get::<Option<String>, _>(0)? {
            records.extend(plan.keyed(parse(&json)?)?);
        }
    }
    Ok(records)
}

/// The keys whose row was there when the statement began, and which it has not changed.
fn untouched(rows: &[FlushRow], saved: &[PgRow], records: &[(Bytes, Option<Record>)]) -> Vec<Bytes> {
    let there: Option<Vec<i64>> = saved.first().and_then(|row| row.try_get(1).ok().flatten());
    let there: BTreeSet<i64> = there.unwrap_or_default().into_iter().collect();
    let changed: HashSet<&Bytes> = records.iter().map(|(key, _)| key).collect();
    let numbered = (1..).zip(rows.iter().map(|row| &row.key));
    numbered.filter(|(n, key)| there.contains(n) && !changed.contains(key)).map(|(_, key)| key.clone()).collect()
}

/// Those of these keys whose row is still there: something of the table's kept it as it was. The flush is committed, so
/// that no error may be its own: where it cannot be asked in time, the key counts as such, and its values are kept.
async fn suppressed(
    sessions: &Sessions,
    mut connection: PoolConnection<Postgres>,
    plan: &Plan,
    mut keys: Vec<Bytes>,
) -> Vec<Bytes> {
    let mut kept = Vec::new();
    let asking = async {
        while let Some(key) = keys.last() {
            let is_there = is_there(sessions, &mut connection, plan, key).await?;
            kept.extend(keys.pop().filter(|_| is_there));
        }
        Ok::<(), StoreError>(())
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    if asked.is_err() {
        // Its answer is still to come.
        drop(connection.detach());
    }
    kept.extend(keys);
    kept
}

async fn is_there(
    sessions: &Sessions,
    connection: &mut PgConnection,
    plan: &Plan,
    key: &Bytes,
) -> Result<bool, StoreError> {
    let Some(bound) = bind(plan, key) else { return Ok(false) };
    let rows = fetch(sessions, connection, &plan.one, &bound).await?;
    Ok(plan.record(key, parse_all(&rows)?)?.is_some())
}
