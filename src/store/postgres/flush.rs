//! Deferred writes of many rows as one statement, which notes its batch too.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::expression::{ORIGIN, cast};
use super::parse;
use crate::mapping::Mapping;
use crate::record::Record;
use crate::store::target::{Column, Place, Target, text};
use crate::store::{FlushRow, Mark, Plan, StoreError};

/// The rows as JSON: `k` the key's texts, `f` columns, `m` members of the overflow column, `e` milliseconds to live; null takes a value away.
struct Gathered {
    rows: Vec<Value>,
    columns: Vec<Column>,
    has_members: bool,
    has_left: bool,
}

fn gather(mapping: &Mapping, target: &Target, rows: &[FlushRow]) -> Result<Gathered, StoreError> {
    let (mut json, mut names) = (Vec::with_capacity(rows.len()), BTreeSet::new());
    let (mut has_members, mut has_left) = (false, false);
    for row in rows {
        let keys = row.values.iter().map(|value| text(value, "").map(Value::from)).collect::<Result<Vec<_>, _>>()?;
        let (mut columns, mut members) = (Map::new(), Map::new());
        for (field, value) in &row.fields {
            let field = text(field, "")?;
            let value = value.as_ref().map(|value| text(value, field).map(Value::from)).transpose()?;
            match target.place(field, &mapping.config)? {
                Place::Column(column) => {
                    names.insert(column.name.clone());
                    columns.insert(column.name.clone(), value.unwrap_or(Value::Null));
                }
                Place::Member(_) => {
                    has_members = true;
                    members.insert(field.to_owned(), value.unwrap_or(Value::Null));
                }
            }
        }
        let mut row_json = serde_json::json!({ "k": keys, "f": columns, "m": members });
        if let Some(left) = row.left {
            has_left = true;
            row_json["e"] = left.into();
        }
        json.push(row_json);
    }
    let columns = target.columns.iter().filter(|column| names.contains(&column.name)).cloned().collect();
    Ok(Gathered { rows: json, columns, has_members, has_left })
}

fn statement(target: &Target, gathered: &Gathered) -> String {
    let literal = |name: &str| format!("'{}'", name.replace('\'', "''"));
    let mut sets: Vec<String> = gathered
        .columns
        .iter()
        .map(|column| {
            let (name, key) = (column.quoted(), literal(&column.name));
            let value = cast(column, &format!("(b.r -> 'f' ->> {key})"));
            format!("{name} = CASE WHEN b.r -> 'f' ? {key} THEN {value} ELSE t.{name} END")
        })
        .collect();
    if let Some(overflow) = target.overflow.as_ref().filter(|_| gathered.has_members) {
        sets.push(format!(
            "{name} = CASE WHEN b.r -> 'm' = '{{}}' THEN t.{name} ELSE \
             CAST((coalesce(t.{name}::jsonb, '{{}}') || jsonb_strip_nulls(b.r -> 'm')) \
             - ARRAY(SELECT key FROM jsonb_each(b.r -> 'm') WHERE value = 'null') AS {}) END",
            overflow.cast,
            name = overflow.quoted(),
        ));
    }
    if let Some(expires) = target.expires.as_ref().filter(|_| gathered.has_left) {
        sets.push(format!(
            "{expires} = CASE WHEN b.r ? 'e' THEN clock_timestamp() + (b.r ->> 'e')::float8 * interval '1 millisecond' \
             ELSE t.{expires} END"
        ));
    }
    let ours: Vec<String> = target
        .keys
        .iter()
        .zip(&target.key_casts)
        .enumerate()
        .map(|(i, (key, cast))| {
            format!("t.{key} = CAST(b.r -> 'k' ->> {i} AS {cast}) AND t.{key}::text = b.r -> 'k' ->> {i}")
        })
        .collect();
    let Target { table, shown, .. } = target;
    format!(
        "WITH {ORIGIN}, \
         noted AS (INSERT INTO hearthside.flushed (journal, batch) VALUES ($2, $3)), \
         past AS (DELETE FROM hearthside.flushed WHERE journal = $2 AND batch < $3), \
         b AS MATERIALIZED (SELECT r FROM jsonb_array_elements($4::text::jsonb) AS r), \
         changed AS (UPDATE {table} AS t SET {} FROM b, origin WHERE {} RETURNING t.*) \
         SELECT row_to_json(r)::text FROM (SELECT {shown} FROM changed) AS r",
        sets.join(", "),
        ours.join(" AND "),
    )
}

pub(super) async fn flush(
    pool: &PgPool,
    mapping: &Mapping,
    plan: &Plan,
    rows: &[FlushRow],
    mark: Mark<'_>,
) -> Result<Option<Vec<(Bytes, Option<Record>)>>, StoreError> {
    let Some(target) = &plan.target else {
        return Err(StoreError::Refused("the mapping has no table to write to".into()));
    };
    let gathered = gather(mapping, target, rows)?;
    let told = sqlx::query(AssertSqlSafe(statement(target, &gathered)))
        .bind(mark.origin)
        .bind(mark.journal)
        .bind(mark.batch.cast_signed())
        .bind(Value::from(gathered.rows).to_string())
        .fetch_all(pool)
        .await;
    let told = match told {
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("flushed_pkey") => return Ok(None),
        other => other.map_err(StoreError::of_write)?,
    };
    let record = |row: &sqlx::postgres::PgRow| {
        let row = parse(row.try_get(0)?)?;
        plan.keyed(&mapping.pattern, row)
    };
    told.iter().map(record).collect::<Result<Vec<_>, StoreError>>().map(|all| Some(all.into_iter().flatten().collect()))
}

pub(super) async fn was_flushed(pool: &PgPool, journal: &str, batch: u64) -> Result<bool, StoreError> {
    let asked = "SELECT EXISTS (SELECT 1 FROM hearthside.flushed WHERE journal = $1 AND batch = $2)";
    Ok(sqlx::query_scalar(asked).bind(journal).bind(batch.cast_signed()).fetch_one(pool).await?)
}
