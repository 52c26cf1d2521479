//! Writes to SQLite: read, change and write in one exclusive transaction, on the one connection that writes (decision
//! 0007). Runs what `statement` makes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::read;
use super::statement::Statements;
use super::value::Bind;
use crate::record::{Change, Condition, Edit, Record, RowEdit, Shape, Written};
use crate::store::StoreError;
use crate::store::adopt::{changes, members, pulled, pushed};
use crate::store::catalog::relation::Column;
use crate::store::catalog::target::{FieldChange, Place, Target, text};
use crate::store::plan::Plan;
use crate::store::row;

/// Members of one statement: its parameters are far from the 32,766 that SQLite takes.
const MOST_MEMBERS: usize = 500;

/// What is said of a record that is not found by its own key.
const NOT_FOUND: &str = "the key's column writes this value in another way, and a row is found by that one alone";

/// One write, or load, of one key in the transaction that the connection is in.
pub(super) struct Desk<'w> {
    connection: &'w mut SqliteConnection,
    plan: &'w Plan,
    key: &'w [u8],
    /// The key's parameters, which come first in each statement.
    bound: Vec<Bind>,
}

/// What the changes of a write make of a row.
#[derive(Default)]
struct Row<'w> {
    columns: Vec<(&'w Column, Bind)>,
    /// Members of the overflow column; without a value they go.
    members: BTreeMap<String, Option<String>>,
}

impl<'w> Desk<'w> {
    /// # Errors
    /// [`StoreError::Field`] for a key that is no text.
    pub(super) fn new(connection: &'w mut SqliteConnection, plan: &'w Plan, key: &'w [u8]) -> Result<Self, StoreError> {
        Ok(Self { connection, plan, key, bound: Bind::key(plan, key)? })
    }

    /// Carries out one edit.
    ///
    /// # Errors
    /// As a write to Postgres.
    pub(super) async fn write(&mut self, RowEdit { edit, left, lives }: RowEdit<'_>) -> Result<Written, StoreError> {
        match edit {
            Edit::Fields(changes, condition) => {
                if !lives {
                    self.bury().await?;
                }
                self.fields(changes, *condition, left).await
            }
            Edit::Members(members, add) => self.members(members, *add).await,
            Edit::Push(_) | Edit::Pull(..) => self.list(edit).await,
            Edit::Delete => self.delete().await,
        }
    }

    /// The record of the key.
    ///
    /// # Errors
    /// As a load.
    pub(super) async fn load(&mut self) -> Result<Option<Record>, StoreError> {
        let rows = self.rows().await?;
        self.plan.record(self.key, rows)
    }

    /// The record of the key as a write has found or left it.
    async fn written(&mut self) -> Result<Option<Record>, StoreError> {
        let rows = self.rows().await?;
        self.plan.written(self.key, rows)
    }

    async fn rows(&mut self) -> Result<Vec<row::Row>, StoreError> {
        self.run(self.plan.one.clone(), &[]).await?.iter().map(read).collect()
    }

    /// Sets when the row ends, in milliseconds from now; `None`: never.
    ///
    /// # Errors
    /// As a write.
    pub(super) async fn set_end(&mut self, left: Option<i64>) -> Result<(), StoreError> {
        let Some(sql) = self.statements()?.set_end(left.is_some()) else { return Ok(()) };
        let seconds = left.map_or(Bind::Null, in_seconds);
        self.run(sql, &[seconds]).await.map(|_| ())
    }

    fn statements(&self) -> Result<Statements<'w>, StoreError> {
        self.plan.target().map(Statements)
    }

    async fn run(&mut self, sql: String, values: &[Bind]) -> Result<Vec<SqliteRow>, StoreError> {
        let query = self.bound.iter().chain(values).fold(sqlx::query(AssertSqlSafe(sql)), |query, bind| bind.to(query));
        query.fetch_all(&mut *self.connection).await.map_err(explain)
    }

    /// Removes the row if it has ended.
    async fn bury(&mut self) -> Result<(), StoreError> {
        let Some(bury) = self.statements()?.bury() else { return Ok(()) };
        self.run(bury, &[]).await.map(|_| ())
    }

    async fn fields(
        &mut self,
        changes: &[(Bytes, Change)],
        condition: Condition,
        left: Option<i64>,
    ) -> Result<Written, StoreError> {
        let (plan, statements) = (self.plan, self.statements()?);
        let changes = plan.places(changes)?;
        let exists = !self.run(statements.exists(), &[]).await?.is_empty();
        let old = self.written().await?;
        let mut row = Row::default();
        for change in &changes {
            row.add(change, old.as_ref(), plan.is_hash())?;
        }
        if !holds(condition, exists, old.as_ref(), &changes) {
            return Ok(Written { new: old.clone(), old, applied: false, count: 0, tells_new: true });
        }
        self.store(statements, row, (!exists).then_some(left)).await?;
        Ok(Written { old, new: self.written().await?, applied: true, count: 0, tells_new: true })
    }

    /// Updates the row, or makes one with so many milliseconds to live.
    async fn store(
        &mut self,
        statements: Statements<'_>,
        row: Row<'_>,
        made: Option<Option<i64>>,
    ) -> Result<(), StoreError> {
        let Row { mut columns, members } = row;
        if let Some(overflow) = statements.0.overflow.as_ref().filter(|_| !members.is_empty()) {
            self.expect_members(statements, &members).await?;
            let known = self.run(statements.overflow(overflow), &[]).await?;
            columns.push((overflow, Bind::Text(merged(known.first(), members)?)));
        }
        let (columns, mut values): (Vec<&Column>, Vec<Bind>) = columns.into_iter().unzip();
        let sql = match made {
            None => statements.update(&columns),
            Some(left) => {
                let end = left.filter(|_| statements.0.expires.is_some()).map(in_seconds);
                let ends = end.is_some();
                values.extend(end);
                statements.insert(&columns, ends)
            }
        };
        match self.run(format!("{sql} RETURNING 1"), &values).await?.is_empty() {
            true => Err(StoreError::suppressed()),
            false => Ok(()),
        }
    }

    /// Refuses when one of these members of the overflow column is a column by now. The schema stays as it is until the
    /// transaction ends.
    async fn expect_members(
        &mut self,
        statements: Statements<'_>,
        members: &BTreeMap<String, Option<String>>,
    ) -> Result<(), StoreError> {
        let names = Value::from(members.keys().cloned().collect::<Vec<_>>()).to_string();
        match self.run(statements.columns_among(), &[Bind::Text(names)]).await?.is_empty() {
            true => Ok(()),
            false => Err(StoreError::member_is_column()),
        }
    }

    /// Refuses when some of these members are not in the set although they were added, or still are.
    async fn expect_moved(&mut self, members: &[Bind], column: &Column, add: bool) -> Result<(), StoreError> {
        let held = self.statements()?.held(column);
        for member in members {
            if self.run(held.clone(), std::slice::from_ref(member)).await?.is_empty() == add {
                return Err(StoreError::suppressed());
            }
        }
        Ok(())
    }

    async fn members(&mut self, members: &[Bytes], add: bool) -> Result<Written, StoreError> {
        let (plan, statements) = (self.plan, self.statements()?);
        let column = plan.member_column()?;
        let mut count = 0;
        for some in members.chunks(MOST_MEMBERS) {
            let binds: Vec<Bind> =
                some.iter().map(|member| Bind::of(column, &column.name, member)).collect::<Result<_, _>>()?;
            let sql = statements.members(column, binds.len(), add);
            let moved = self.run(sql, &binds).await?.len();
            if moved < binds.len() {
                self.expect_moved(&binds, column, add).await?;
            }
            count += moved as u64;
        }
        Ok(Written { applied: count > 0, count, ..Written::default() })
    }

    async fn list(&mut self, edit: &Edit) -> Result<Written, StoreError> {
        let list = self.plan.list_edit(edit)?;
        let mut moved = 0;
        for element in list.elements {
            let mut values = vec![Bind::Text(text(element, "the element")?.to_owned())];
            values.extend(list.count.map(Bind::Integer));
            let query = sqlx::query(AssertSqlSafe(list.sql.to_owned()));
            let query = self.bound.iter().chain(&values).fold(query, |query, bind| bind.to(query));
            moved += query.execute(&mut *self.connection).await.map_err(explain)?.rows_affected();
        }
        Ok(Written { old: None, new: self.load().await?, applied: moved > 0, count: moved, tells_new: true })
    }

    /// Inserts a whole record, unless the key has a row that has not ended; the record as it is then, if it did.
    ///
    /// # Errors
    /// As a write.
    pub(super) async fn adopt(&mut self, record: &Record) -> Result<Option<Record>, StoreError> {
        if record.shape() == Shape::List {
            if self.load().await?.is_some() {
                return Ok(None);
            }
            return Ok(self.list(&pushed(record)).await?.new);
        }
        let statements = self.statements()?;
        self.bury().await?;
        if !self.run(statements.exists(), &[]).await?.is_empty() {
            return Ok(None);
        }
        if record.shape() == Shape::Set {
            self.members(&members(record), true).await?;
            return self.load().await;
        }
        let changes = changes(record);
        let mut row = Row::default();
        for change in &self.plan.places(&changes)? {
            row.add(change, None, self.plan.is_hash())?;
        }
        row.clear_others(statements.0);
        self.store(statements, row, Some(record.left)).await?;
        if record.left.is_none() && !self.plan.must_end() {
            self.set_end(None).await?;
        }
        match self.written().await? {
            None => Err(StoreError::Refused(NOT_FOUND.into())),
            written => Ok(written),
        }
    }

    /// Removes what was inserted, if it is as it was.
    ///
    /// # Errors
    /// As a write.
    pub(super) async fn retract(&mut self, inserted: &Record) -> Result<bool, StoreError> {
        if !self.load().await?.is_some_and(|now| Record::same(&now, inserted)) {
            return Ok(false);
        }
        if inserted.shape() != Shape::List {
            return self.delete().await.map(|written| written.applied);
        }
        if self.plan.list.remove.is_none() {
            return Ok(false);
        }
        for edit in pulled(inserted) {
            self.list(&edit).await?;
        }
        Ok(true)
    }

    async fn delete(&mut self) -> Result<Written, StoreError> {
        let statements = self.statements()?;
        let old = self.load().await?;
        let count = self.run(statements.delete(), &[]).await?.len() as u64;
        if !self.run(statements.exists(), &[]).await?.is_empty() {
            return Err(StoreError::suppressed());
        }
        Ok(Written { old, new: None, applied: count > 0, count, tells_new: true })
    }
}

/// Whether the condition of a write to a row that exists, or not, and holds `old`, is met.
fn holds(condition: Condition, exists: bool, old: Option<&Record>, changes: &[FieldChange<'_>]) -> bool {
    let is_set = |change: &FieldChange<'_>| old.is_some_and(|old| old.field_text(change.field.as_bytes()).is_some());
    match condition {
        Condition::Always => true,
        Condition::RowExists => exists,
        Condition::FieldAbsent => !changes.iter().any(is_set),
        Condition::FieldPresent => exists && changes.iter().all(is_set),
    }
}

impl<'w> Row<'w> {
    /// What a change makes of its field in a row that held `old`.
    fn add(&mut self, change: &FieldChange<'w>, old: Option<&Record>, in_hash: bool) -> Result<(), StoreError> {
        let name = change.field;
        let before = old.and_then(|record| record.field_text(name.as_bytes()));
        let after = change.change.apply(before, in_hash).map_err(StoreError::Value)?;
        match change.place {
            Place::Column(column) => {
                let bind = after.map_or(Ok(Bind::Null), |value| Bind::of(column, name, &value))?;
                self.columns.push((column, bind));
            }
            Place::Member(_) => {
                let value = after.map(|value| text(&value, name).map(str::to_owned)).transpose()?;
                self.members.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }
}

impl<'w> Row<'w> {
    /// Columns of which nothing is said hold nothing, where that can be.
    fn clear_others(&mut self, target: &'w Target) {
        let is_said = |column: &&Column| self.columns.iter().any(|(said, _)| said.name == column.name);
        let is_overflow = |column: &&Column| target.overflow.as_ref().is_some_and(|it| it.name == column.name);
        let others = target.columns.iter().filter(|it| !it.is_required && !is_said(it) && !is_overflow(it));
        let others: Vec<(&Column, Bind)> = others.map(|column| (column, Bind::Null)).collect();
        self.columns.extend(others);
    }
}

/// The object in the overflow column, which `row` has if there is one, with these members put in or, without a value,
/// taken out.
fn merged(row: Option<&SqliteRow>, members: BTreeMap<String, Option<String>>) -> Result<String, StoreError> {
    let known: Option<String> = row.map_or(Ok(None), |row| row.try_get(0))?;
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

/// `NOT NULL constraint failed: sessions.max_hp` names the column.
fn explain(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(refusal) = &error {
        let message = refusal.message();
        let column = |prefix: &str| message.strip_prefix(prefix).and_then(|names| names.rsplit('.').next());
        if let Some(column) = column("NOT NULL constraint failed: ") {
            return StoreError::field(column, "its column must have a value (NOT NULL)");
        }
        if let Some(columns) = message.strip_prefix("UNIQUE constraint failed: ") {
            // "accounts.email, accounts.realm", or "index 'name'" of one on expressions.
            let names: Vec<&str> = columns.split(", ").filter_map(|name| name.rsplit('.').next()).collect();
            return match columns.starts_with("index ") {
                true => StoreError::Data(format!("the unique {columns} forbids it")),
                false => StoreError::field(&names.join("', '"), "a unique index forbids the value"),
            };
        }
        if let Some(constraint) = column("CHECK constraint failed: ") {
            return StoreError::field(constraint, "a CHECK constraint forbids the value");
        }
    }
    StoreError::of_write(error)
}

/// Milliseconds as a text of seconds, with its sign.
fn in_seconds(left: i64) -> Bind {
    Bind::Text(format!("{:+.3}", left as f64 / 1000.0))
}
