//! The statement that writes fields: it locks the row, updates it, or inserts it where there is none, and gives it back
//! as it was and as it is (decision 0007). Pure; knows no connection.

use serde_json::{Map, Value};

use super::expression::{Field, MARK, Parts, guard, is_column, object};
use super::statement::{Statement, Statements};
use crate::record::{Change, Condition};
use crate::store::StoreError;
use crate::store::catalog::relation::{Column, Holds};
use crate::store::catalog::target::{FieldChange, Place, Target, text};
use crate::store::dialect::held;

/// The upsert of some changes, gathered one by one.
struct Upsert<'p> {
    statements: Statements<'p>,
    condition: Condition,
    parts: Parts,
    /// What is set in a row that is there.
    sets: Vec<String>,
    /// The columns of a new row, and their values.
    columns: Vec<String>,
    inserted: Vec<String>,
    members: Members,
    /// True where a member's name is that of a column now, as an expression; `None` where no member changes.
    is_column: Option<String>,
}

/// What becomes of the overflow column: names of members, and values. Those that nothing is asked of go as one
/// parameter, however many they are.
#[derive(Default)]
struct Members {
    names: Vec<String>,
    put: Map<String, Value>,
    removed: Vec<String>,
    set: Vec<(String, String)>,
    cleared: Vec<String>,
    /// Those of a new row.
    created: Vec<(String, String)>,
}

/// The upsert of these changes. A new row has so many milliseconds to live.
///
/// # Errors
/// [`StoreError::Field`] for a value that a column cannot have.
pub(super) fn upsert(
    statements: Statements<'_>,
    changes: &[FieldChange<'_>],
    condition: Condition,
    left: Option<i64>,
) -> Result<Statement, StoreError> {
    let mut upsert = Upsert {
        condition,
        parts: statements.parts(),
        sets: Vec::new(),
        columns: statements.target.keys.clone(),
        inserted: statements.key(),
        members: Members::default(),
        is_column: None,
        statements,
    };
    for change in changes {
        match change.place {
            Place::Column(column) => upsert.column(column, change)?,
            Place::Member(overflow) => upsert.member(overflow, change)?,
        }
    }
    upsert.overflow();
    upsert.end(left);
    Ok(upsert.statement())
}

/// True when a condition asks something of each field.
fn is_guarded(condition: Condition) -> bool {
    guard(condition, "").is_some()
}

impl Upsert<'_> {
    fn column(&mut self, column: &Column, change: &FieldChange<'_>) -> Result<(), StoreError> {
        let now = format!("t.{}", column.quoted());
        let becomes = Field { column, name: change.field, now: &now }.becomes(change.change, &mut self.parts)?;
        self.sets.push(format!("{} = {}", column.quoted(), becomes.updated));
        if let Some(first) = becomes.inserted {
            self.columns.push(column.quoted());
            self.inserted.push(first);
        }
        self.parts.guards.extend(guard(self.condition, &now));
        Ok(())
    }

    fn member(&mut self, overflow: &Column, change: &FieldChange<'_>) -> Result<(), StoreError> {
        self.members.names.push(change.field.to_owned());
        match change.change {
            Change::Put(value) if !is_guarded(self.condition) => {
                self.members.put.insert(change.field.to_owned(), text(value, change.field)?.into());
                Ok(())
            }
            Change::Clear if !is_guarded(self.condition) => {
                self.members.removed.push(change.field.to_owned());
                Ok(())
            }
            _ => self.looked_at(overflow, change),
        }
    }

    /// A change of a member that depends on what it holds.
    fn looked_at(&mut self, overflow: &Column, change: &FieldChange<'_>) -> Result<(), StoreError> {
        let name = self.parts.add(change.field);
        let now = format!("(t.{}::jsonb ->> {name})", overflow.quoted());
        let column = Column::new(change.field.to_owned(), "pg_catalog.text".into(), Holds::Texts);
        let field = Field { column: &column, name: change.field, now: &now };
        let becomes = field.becomes(change.change, &mut self.parts)?;
        match becomes.inserted {
            None => self.members.cleared.push(name),
            Some(first) => {
                self.members.set.push((name.clone(), becomes.updated));
                self.members.created.push((name, first));
            }
        }
        self.parts.guards.extend(guard(self.condition, &now));
        Ok(())
    }

    /// Sets the overflow column, if members of it change.
    fn overflow(&mut self) {
        let Some(column) = &self.statements.target.overflow else { return };
        let Members { names, put, removed, set, cleared, created } = std::mem::take(&mut self.members);
        if names.is_empty() {
            return;
        }
        let names = self.parts.add(&Value::from(names).to_string());
        let names = format!("SELECT jsonb_array_elements_text({names}::jsonb)");
        self.is_column = Some(is_column(&self.statements.target.table, &names));
        let mut without: String = cleared.iter().map(|name| format!(" - {name}")).collect();
        if !removed.is_empty() {
            let names = self.parts.add(&Value::from(removed).to_string());
            without.push_str(&format!(" - ARRAY(SELECT jsonb_array_elements_text({names}::jsonb))"));
        }
        let put = (!put.is_empty()).then(|| format!("{}::jsonb", self.parts.add(&Value::from(put).to_string())));
        // What is put, and then what is computed.
        let joined = |members: &[(String, String)]| {
            let computed = (!members.is_empty()).then(|| object(members));
            put.iter().cloned().chain(computed).collect::<Vec<_>>().join(" || ")
        };
        let (name, updated, inserted) = (column.quoted(), joined(&set), joined(&created));
        let updated = if updated.is_empty() { updated } else { format!(" || {updated}") };
        self.sets.push(format!(
            "{name} = CAST(coalesce(t.{name}::jsonb, '{{}}'::jsonb){without}{updated} AS {})",
            column.cast
        ));
        if !inserted.is_empty() {
            self.columns.push(name);
            self.inserted.push(format!("CAST({inserted} AS {})", column.cast));
        }
    }

    /// A new row says when it expires: the column may not be NULL, and a row without an end would stay for ever if
    /// nothing came after this statement.
    fn end(&mut self, left: Option<i64>) {
        let (Some(expires), Some(left)) = (&self.statements.target.expires, left.filter(|_| self.inserts())) else {
            return;
        };
        let left = self.parts.add(&left.to_string());
        let end = format!("clock_timestamp() + {left}::float8 * interval '1 millisecond'");
        self.columns.push(expires.column.clone());
        self.inserted.push(held(&end, expires.zone.as_deref()));
    }

    /// False where only a row that is there is written.
    const fn inserts(&self) -> bool {
        matches!(self.condition, Condition::Always | Condition::FieldAbsent)
    }

    /// What inserts the row where there is none, and what reads it; nothing where only a row that is there is written.
    fn insert(&self) -> (String, String) {
        if !self.inserts() {
            return (String::new(), String::new());
        }
        let Target { table, keys, shown, .. } = self.statements.target;
        let made = format!(
            ", made AS (INSERT INTO {table} AS t ({}){} SELECT {} FROM seen WHERE seen.rows = 0{}{} \
             ON CONFLICT ({}) DO NOTHING RETURNING t.*)",
            self.columns.join(", "),
            self.statements.overriding(),
            self.inserted.join(", "),
            self.statements.is_canonical(),
            if self.is_column.is_some() { " AND NOT seen.is_column" } else { "" },
            keys.join(", "),
        );
        (made, format!(" UNION ALL SELECT {shown} FROM made"))
    }

    fn statement(self) -> Statement {
        let Target { table, shown, .. } = self.statements.target;
        let (ours, alive, (made, union)) = (self.statements.is_ours(), self.statements.is_alive(), self.insert());
        let mut guards: String = self.parts.guards.iter().map(|guard| format!(" AND ({guard})")).collect();
        let (mut looked, mut told) = (String::new(), "");
        if let Some(is_column) = &self.is_column {
            (looked, told) = (format!(", {is_column} AS is_column"), ", seen.is_column");
            guards.push_str(" AND NOT seen.is_column");
        }
        let sql = format!(
            "WITH old AS MATERIALIZED (SELECT {shown} FROM {table} AS t WHERE {alive} FOR NO KEY UPDATE), \
             seen AS MATERIALIZED (SELECT count(*) AS rows, {MARK}{looked} FROM old), \
             changed AS (UPDATE {table} AS t SET {} FROM seen WHERE {ours} AND seen.rows > 0{guards} \
             RETURNING t.*){made} \
             SELECT (SELECT row_to_json(old.*)::text FROM old), \
             (SELECT row_to_json(r.*)::text FROM (SELECT {shown} FROM changed{union}) AS r), seen.rows{told} FROM seen",
            self.sets.join(", "),
        );
        Statement { sql, values: self.parts.values }
    }
}
