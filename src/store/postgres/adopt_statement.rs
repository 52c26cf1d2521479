//! The statements that insert whole records of keys that have no row. Pure; knows no connection.

use bytes::Bytes;
use serde_json::{Value, json};

use super::expression::origin;
use super::flush::is_row;
use crate::record::{Record, Shape};
use crate::store::adopt::Foreign;
use crate::store::catalog::described::Param;
use crate::store::catalog::relation::Column;
use crate::store::catalog::target::{Target, text};
use crate::store::dialect::{Dialect, held, literal};
use crate::store::{FlushRow, Plan, StoreError};

/// The transaction's number, as rows have it.
pub(super) const BY: &str = "(txid_current() % 4294967296)::text";

/// The rows that hold the keys' texts: `$2`, an array of JSON.
pub(super) const ROWS: &str = "jsonb_array_elements($2::text::jsonb) WITH ORDINALITY AS b (r, n)";

/// What is inserted of all rows of one statement: those of its columns that may not be NULL, and whether they end.
pub(super) type Form = (Vec<String>, bool);

pub(super) fn key_texts(plan: &Plan, key: &[u8]) -> Result<Vec<Value>, StoreError> {
    let values = plan.values(key).unwrap_or_default();
    values.into_iter().map(|value| text(value, "").map(Value::from)).collect()
}

pub(super) fn keys(plan: &Plan, foreign: &[Foreign]) -> Result<Vec<Value>, StoreError> {
    foreign.iter().map(|(key, _)| Ok(json!({ "k": key_texts(plan, key)? }))).collect()
}

pub(super) fn as_row(key: &Bytes, record: &Record) -> FlushRow {
    let is_hash = record.shape() == Shape::Hash;
    let field = |(name, value): (&[u8], &[u8])| {
        let name = if is_hash { Bytes::copy_from_slice(name) } else { Bytes::new() };
        (name, Some(Bytes::copy_from_slice(value)))
    };
    FlushRow { key: key.clone(), fields: record.named_parts().map(field).collect(), left: Some(record.left) }
}

/// Which columns a row needs to name.
pub(super) fn form(target: &Target, row: &Value, record: &Record) -> Form {
    let is_there = |column: &&Column| column.is_required && row["f"].get(&column.name).is_some();
    (target.columns.iter().filter(is_there).map(|column| column.name.clone()).collect(), record.left.is_some())
}

/// The values of the key's columns, and what must be true of them (as `Statements::is_canonical`).
pub(super) fn key_values(plan: &Plan, target: &Target, row: &str) -> (Vec<String>, String) {
    let texts = |at: usize| format!("({row} -> 'k' ->> {at})");
    let value = |(at, cast): (usize, &String)| format!("CAST({} AS {cast})", texts(at));
    let values: Vec<String> = target.key_casts.iter().enumerate().map(value).collect();
    let canonical = values.iter().zip(&plan.params).enumerate().map(|(at, (value, param))| match param {
        Param::Cast { .. } => format!(" AND {value}::text = {}", texts(at)),
        _ => String::new(),
    });
    let canonical = canonical.collect();
    (values, canonical)
}

pub(super) const fn overriding(target: &Target) -> &'static str {
    if target.has_identity { " OVERRIDING SYSTEM VALUE" } else { "" }
}

/// Inserts rows of this form, and gives those that it has inserted.
pub(super) fn insert(plan: &Plan, target: &Target, (required, ends): &Form) -> String {
    let Target { table, shown, .. } = target;
    let (mut values, canonical) = key_values(plan, target, "b.r");
    let mut columns = target.keys.clone();
    let is_overflow = |column: &Column| target.overflow.as_ref().is_some_and(|it| it.name == column.name);
    let is_named = |column: &&Column| !column.is_required || required.contains(&column.name);
    for column in target.columns.iter().filter(|column| !is_overflow(column)).filter(is_named) {
        columns.push(column.quoted());
        values.push(Dialect::Postgres.value(column, &format!("(b.r -> 'f' ->> {})", literal(&column.name))));
    }
    if let Some(overflow) = &target.overflow {
        columns.push(overflow.quoted());
        values.push(format!("CAST(b.r -> 'm' AS {})", overflow.cast));
    }
    if let Some(expires) = target.expires.as_ref().filter(|expires| *ends || !expires.is_required) {
        let end = "clock_timestamp() + (b.r ->> 'e')::float8 * interval '1 millisecond'";
        columns.push(expires.column.clone());
        values.push(held(end, expires.zone.as_deref()));
    }
    format!(
        "WITH {}, made AS (INSERT INTO {table} AS t ({}){} SELECT {} FROM origin, {ROWS} WHERE true{canonical} \
         ON CONFLICT ({}) DO NOTHING RETURNING t.*) \
         SELECT row_to_json(r.*)::text, {BY} FROM (SELECT {shown} FROM made) AS r",
        origin(),
        columns.join(", "),
        overriding(target),
        values.join(", "),
        target.keys.join(", "),
    )
}

/// Inserts the members of those sets that have none, and gives the numbers of these.
pub(super) fn insert_sets(plan: &Plan, target: &Target, column: &Column) -> String {
    let (values, canonical) = key_values(plan, target, "free.r");
    let (table, keys, name) = (&target.table, target.keys.join(", "), column.quoted());
    format!(
        "WITH free AS MATERIALIZED (SELECT b.r, b.n FROM {ROWS} WHERE NOT EXISTS \
         (SELECT 1 FROM {table} AS t WHERE {})), {}, \
         made AS (INSERT INTO {table} AS t ({keys}, {name}){} SELECT {}, {} \
         FROM origin, free, jsonb_array_elements_text(free.r -> 'v') AS m (v) WHERE true{canonical} \
         ON CONFLICT ({keys}, {name}) DO NOTHING RETURNING 1) \
         SELECT n, {BY} FROM free WHERE true{canonical} AND (SELECT count(*) FROM made) >= 0",
        is_row(plan, target, "b.r -> 'k'"),
        origin(),
        overriding(target),
        values.join(", "),
        Dialect::Postgres.value(column, "m.v"),
    )
}
