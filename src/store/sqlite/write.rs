//! Writes to SQLite: read, change and write in one exclusive transaction, on the one connection that writes. The
//! columns' declared types say what a value may be, since SQLite itself would take anything.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Row as _, Sqlite};

use super::read;
use crate::keys::HoleKind;
use crate::mapping::Mapping;
use crate::record::{Change, Condition, Edit, Record, Written};
use crate::resp::number::parse_i64;
use crate::store::StoreError;
use crate::store::plan::Plan;
use crate::store::target::{Column, Holds, Place, Target, text};

/// A value for a column.
#[derive(Clone, Debug)]
enum Bind {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Bind {
    fn to<'q>(&self, query: Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments> {
        match self {
            Self::Null => query.bind(None::<String>),
            Self::Integer(number) => query.bind(*number),
            Self::Real(number) => query.bind(*number),
            Self::Text(text) => query.bind(text.clone()),
        }
    }

    /// A text as the column's declared type keeps it.
    fn of(column: &Column, field: &str, value: &[u8]) -> Result<Self, StoreError> {
        let value = text(value, field)?;
        let refused = || column.refuses(field);
        Ok(match column.holds {
            Holds::Integers => Self::Integer(parse_i64(value.as_bytes()).ok_or_else(refused)?),
            Holds::Numbers => Self::Real(value.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(refused)?),
            Holds::Booleans => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => Self::Integer(1),
                "false" | "f" | "0" => Self::Integer(0),
                _ => return Err(refused()),
            },
            Holds::Json => {
                serde_json::from_str::<Value>(value).map_err(|_| refused())?;
                Self::Text(value.to_owned())
            }
            Holds::Epochs => {
                value.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(refused)?;
                Self::Text(value.to_owned())
            }
            Holds::Times | Holds::Texts => Self::Text(value.to_owned()),
        })
    }

    /// The expression that stores parameter `place` in the column.
    fn expression(column: &Column, place: usize) -> String {
        match column.holds {
            Holds::Epochs => format!("strftime('%Y-%m-%d %H:%M:%f', CAST(?{place} AS REAL), 'unixepoch')"),
            _ => format!("?{place}"),
        }
    }
}

/// Carries out one edit in the transaction that `connection` is in.
///
/// # Errors
/// As a write to Postgres.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    mapping: &Mapping,
    plan: &Plan,
    holes: &[&[u8]],
    edit: &Edit,
) -> Result<Written, StoreError> {
    let mut desk = Desk { connection, mapping, plan, holes, keys: keys(mapping, holes)? };
    match edit {
        Edit::Fields(changes, condition) => desk.fields(changes, *condition).await,
        Edit::Members(members, add) => desk.members(members, *add).await,
        Edit::Push(elements) => desk.list(&plan.list.push, elements, None).await,
        Edit::Pull(count, element) => desk.list(&plan.list.remove, std::slice::from_ref(element), Some(*count)).await,
        Edit::Delete => desk.delete().await,
    }
}

/// The record of one key, as the transaction that `connection` is in sees it.
///
/// # Errors
/// As a load.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    mapping: &Mapping,
    plan: &Plan,
    holes: &[&[u8]],
) -> Result<Option<Record>, StoreError> {
    Desk { connection, mapping, plan, holes, keys: keys(mapping, holes)? }.load().await
}

/// Sets when a row ends, in milliseconds from now; `None`: never.
///
/// # Errors
/// As a write.
pub(super) async fn set_end(
    connection: &mut SqliteConnection,
    mapping: &Mapping,
    plan: &Plan,
    holes: &[&[u8]],
    left: Option<i64>,
) -> Result<(), StoreError> {
    let mut desk = Desk { connection, mapping, plan, holes, keys: keys(mapping, holes)? };
    let target = desk.target()?.clone();
    let Some(column) = target.expires.as_ref().map(|expires| &expires.column) else { return Ok(()) };
    let at = desk.keys.len() + 1;
    let (value, bind) = match left {
        Some(left) => (
            format!("strftime('%Y-%m-%d %H:%M:%f', 'now', ?{at} || ' seconds')"),
            Bind::Text(format!("{:+.3}", left as f64 / 1000.0)),
        ),
        None => (format!("?{at}"), Bind::Null),
    };
    let sql = format!("UPDATE {} SET {column} = {value} WHERE {}", target.table, desk.is_ours(&target));
    desk.run(sql, &[bind]).await.map(|_| ())
}

fn keys(mapping: &Mapping, holes: &[&[u8]]) -> Result<Vec<Bind>, StoreError> {
    let bind = |((name, kind), value): ((&str, HoleKind), &&[u8])| match (kind, parse_i64(value)) {
        (HoleKind::Int, Some(number)) => Ok(Bind::Integer(number)),
        _ => Ok(Bind::Text(text(value, name)?.to_owned())),
    };
    mapping.pattern.holes().zip(holes).map(bind).collect()
}

struct Desk<'w> {
    connection: &'w mut SqliteConnection,
    mapping: &'w Mapping,
    plan: &'w Plan,
    holes: &'w [&'w [u8]],
    keys: Vec<Bind>,
}

impl Desk<'_> {
    fn target(&self) -> Result<&Target, StoreError> {
        self.plan.target.as_ref().ok_or_else(|| StoreError::Refused("the mapping has no table to write to".into()))
    }

    fn is_ours(&self, target: &Target) -> String {
        let equal: Vec<String> = target.keys.iter().enumerate().map(|(i, key)| format!("{key} = ?{}", i + 1)).collect();
        equal.join(" AND ")
    }

    async fn run(&mut self, sql: String, values: &[Bind]) -> Result<Vec<sqlx::sqlite::SqliteRow>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in self.keys.iter().chain(values) {
            query = value.to(query);
        }
        query.fetch_all(&mut *self.connection).await.map_err(explain)
    }

    async fn load(&mut self) -> Result<Option<Record>, StoreError> {
        let rows = self.run(self.plan.one.clone(), &[]).await?;
        let rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        self.plan.record(&self.mapping.pattern, self.holes, rows)
    }

    async fn fields(&mut self, changes: &[(Bytes, Change)], condition: Condition) -> Result<Written, StoreError> {
        let plan = self.plan;
        let target = self.target()?.clone();
        let ours = self.is_ours(&target);
        if let Some(column) = target.expires.as_ref().map(|expires| &expires.column) {
            let ended = format!("unixepoch({column}, 'subsec') <= unixepoch('now', 'subsec')");
            self.run(format!("DELETE FROM {} WHERE {ours} AND {ended}", target.table), &[]).await?;
        }
        let exists = !self.run(format!("SELECT 1 FROM {} WHERE {ours}", target.table), &[]).await?.is_empty();
        let old = self.load().await?;
        let in_hash = plan.is_hash();
        let (mut columns, mut members) = (Vec::new(), BTreeMap::new());
        let mut holds = exists || !matches!(condition, Condition::RowExists | Condition::FieldPresent);
        for (field, change) in changes {
            let name = text(field, "")?;
            let before = old.as_ref().and_then(|record| record.field_text(field));
            holds &= match condition {
                Condition::FieldAbsent => before.is_none(),
                Condition::FieldPresent => before.is_some(),
                Condition::Always | Condition::RowExists => true,
            };
            let after = change.apply(before, in_hash).map_err(StoreError::Value)?;
            match target.place(name, &self.mapping.config)? {
                Place::Column(column) => {
                    let bind = after.map_or(Ok(Bind::Null), |value| Bind::of(column, name, &value))?;
                    columns.push((column.clone(), bind));
                }
                Place::Member(_) => {
                    let value = after.map(|value| text(&value, name).map(str::to_owned)).transpose()?;
                    members.insert(name.to_owned(), value);
                }
            }
        }
        if !holds {
            return Ok(Written { new: old.clone(), old, applied: false, count: 0, tells_new: true });
        }
        if let Some(overflow) = target.overflow.as_ref().filter(|_| !members.is_empty()) {
            let merged = self.merged(overflow, &target, members).await?;
            columns.push((overflow.clone(), Bind::Text(merged)));
        }
        self.store(&target, &ours, exists, &columns).await?;
        Ok(Written { old, new: self.load().await?, applied: true, count: 0, tells_new: true })
    }

    /// The overflow column's object with these members put in or, without a value, taken out.
    async fn merged(
        &mut self,
        overflow: &Column,
        target: &Target,
        members: BTreeMap<String, Option<String>>,
    ) -> Result<String, StoreError> {
        let sql = format!("SELECT {} FROM {} WHERE {}", overflow.quoted(), target.table, self.is_ours(target));
        let rows = self.run(sql, &[]).await?;
        let known: Option<String> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
        let mut object = match known.map(|text| serde_json::from_str(&text)) {
            None => serde_json::Map::new(),
            Some(Ok(Value::Object(object))) => object,
            Some(_) => return Err(StoreError::Refused("the overflow column holds no JSON object".into())),
        };
        for (name, value) in members {
            match value {
                Some(value) => object.insert(name, Value::String(value)),
                None => object.remove(&name),
            };
        }
        Ok(Value::Object(object).to_string())
    }

    async fn store(
        &mut self,
        target: &Target,
        ours: &str,
        exists: bool,
        columns: &[(Column, Bind)],
    ) -> Result<(), StoreError> {
        let first = self.keys.len() + 1;
        let expressions = columns.iter().enumerate().map(|(i, (column, _))| Bind::expression(column, first + i));
        let values: Vec<Bind> = columns.iter().map(|(_, bind)| bind.clone()).collect();
        let sql = if exists {
            let sets: Vec<String> =
                columns.iter().zip(expressions).map(|((c, _), value)| format!("{} = {value}", c.quoted())).collect();
            format!("UPDATE {} SET {} WHERE {ours}", target.table, sets.join(", "))
        } else {
            let names = target.keys.iter().cloned().chain(columns.iter().map(|(c, _)| c.quoted()));
            let places = (1..first).map(|i| format!("?{i}")).chain(expressions);
            let (names, places): (Vec<_>, Vec<_>) = (names.collect(), places.collect());
            format!("INSERT INTO {} ({}) VALUES ({})", target.table, names.join(", "), places.join(", "))
        };
        self.run(sql, &values).await.map(|_| ())
    }

    async fn members(&mut self, members: &[Bytes], add: bool) -> Result<Written, StoreError> {
        let target = self.target()?.clone();
        let Place::Column(column) = target.place("", &self.mapping.config)? else {
            return Err(StoreError::Refused("a set has no column for its members".into()));
        };
        let at = self.keys.len() + 1;
        let (name, value) = (column.quoted(), Bind::expression(column, at));
        let sql = if add {
            let places: Vec<String> = (1..at).map(|i| format!("?{i}")).collect();
            let (keys, places) = (target.keys.join(", "), places.join(", "));
            format!(
                "INSERT INTO {} ({keys}, {name}) VALUES ({places}, {value}) ON CONFLICT DO NOTHING RETURNING 1",
                target.table
            )
        } else {
            let ours = self.is_ours(&target);
            format!("DELETE FROM {} WHERE {ours} AND {name} = {value} RETURNING 1", target.table)
        };
        let mut count = 0;
        for member in members {
            let bind = Bind::of(column, &column.name, member)?;
            count += self.run(sql.clone(), &[bind]).await?.len() as u64;
        }
        Ok(Written { applied: count > 0, count, ..Written::default() })
    }

    async fn list(
        &mut self,
        statement: &Option<crate::store::plan::ListStatement>,
        elements: &[Bytes],
        count: Option<i64>,
    ) -> Result<Written, StoreError> {
        let Some(statement) = statement else {
            return Err(StoreError::Refused("the mapping has no statement for that (push, remove)".into()));
        };
        let mut moved = 0;
        for element in elements {
            let mut values = vec![Bind::Text(text(element, "the element")?.to_owned())];
            values.extend(count.filter(|_| statement.takes_count).map(Bind::Integer));
            let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
            for value in self.keys.iter().chain(&values) {
                query = value.to(query);
            }
            moved += query.execute(&mut *self.connection).await.map_err(explain)?.rows_affected();
        }
        Ok(Written { old: None, new: self.load().await?, applied: moved > 0, count: moved, tells_new: true })
    }

    async fn delete(&mut self) -> Result<Written, StoreError> {
        let target = self.target()?.clone();
        let old = self.load().await?;
        let sql = format!("DELETE FROM {} WHERE {} RETURNING 1", target.table, self.is_ours(&target));
        let count = self.run(sql, &[]).await?.len() as u64;
        Ok(Written { old, new: None, applied: count > 0, count, tells_new: true })
    }
}

/// `NOT NULL constraint failed: sessions.max_hp` names the column.
fn explain(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(told) = &error {
        let message = told.message().to_owned();
        let column = |prefix: &str| message.strip_prefix(prefix).and_then(|names| names.rsplit('.').next());
        if let Some(column) = column("NOT NULL constraint failed: ") {
            return StoreError::field(column, "its column must have a value (NOT NULL)");
        }
        if let Some(constraint) = column("CHECK constraint failed: ") {
            return StoreError::field(constraint, "a CHECK constraint forbids the value");
        }
    }
    StoreError::of_write(error)
}
