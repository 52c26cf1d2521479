//! What becomes of a column, as SQL expressions: arithmetic is the database's, values are parameters. Knows one column
//! at a time.

use crate::record::{Change, Condition};
use crate::store::StoreError;
use crate::store::catalog::relation::{Column, Holds};
use crate::store::catalog::target::text;
use crate::store::dialect::Dialect;

/// An origin that begins so is written into the server's log, for a feed that reads it; triggers read any other.
pub(super) const IN_LOG: &str = "log:";

/// Says whose write a transaction is: `$1`.
pub(super) const MARK: &str = "CASE WHEN starts_with($1, 'log:') \
    THEN pg_logical_emit_message(true, 'hearthside.origin', $1)::text \
    ELSE set_config('hearthside.origin', $1, true) END";

/// The same as a part of a statement, which must select from `origin`.
pub(super) fn origin() -> String {
    format!("origin AS MATERIALIZED (SELECT {MARK})")
}

/// The parameters of a statement behind the origin and the key's, and what must be true of the row.
pub(super) struct Parts {
    /// How many parameters come before.
    before: usize,
    pub(super) values: Vec<String>,
    pub(super) guards: Vec<String>,
}

impl Parts {
    /// None yet, behind the origin and so many parameters of the key.
    pub(super) const fn behind_key(parameters: usize) -> Self {
        Self { before: 1 + parameters, values: Vec::new(), guards: Vec::new() }
    }

    /// The placeholder of one more text parameter.
    pub(super) fn add(&mut self, value: &str) -> String {
        self.values.push(value.to_owned());
        format!("${}::text", self.before + self.values.len())
    }

    /// What is there must be nothing, or written like this.
    fn must_match(&mut self, now: &str, pattern: &str) {
        self.guards.push(format!("{now} IS NULL OR {now}::text {pattern}"));
    }
}

/// A JSON object of names and values, which are expressions of text.
pub(super) fn object(members: &[(String, String)]) -> String {
    let (names, values): (Vec<&str>, Vec<&str>) = members.iter().map(|(n, v)| (n.as_str(), v.as_str())).unzip();
    format!("jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[])", names.join(", "), values.join(", "))
}

/// Whether one of the names that a SELECT gives is that of a column of the table now: the plan that calls it a member
/// of the overflow column is of before.
pub(super) fn is_column(table: &str, names: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = '{}'::regclass AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.attname::text IN ({names}))",
        table.replace('\'', "''")
    )
}

/// What a condition asks of a field that holds `now`.
pub(super) fn guard(condition: Condition, now: &str) -> Option<String> {
    match condition {
        Condition::FieldAbsent => Some(format!("{now} IS NULL")),
        Condition::FieldPresent => Some(format!("{now} IS NOT NULL")),
        Condition::Always | Condition::RowExists => None,
    }
}

/// What a column becomes in a row that is there, and in a new one; `None`: the new one has no value.
pub(super) struct Becomes {
    pub(super) updated: String,
    pub(super) inserted: Option<String>,
}

const IS_INTEGER: &str = "~ '^(0|-?[1-9][0-9]{0,18})$'";
const IS_NUMBER: &str = "~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?$'";

/// A column that a field goes to, or a member of the overflow column as if it were one.
pub(super) struct Field<'f> {
    pub(super) column: &'f Column,
    /// As the client calls it.
    pub(super) name: &'f str,
    /// What it holds, as an expression.
    pub(super) now: &'f str,
}

impl Field<'_> {
    /// What a change makes of it.
    ///
    /// # Errors
    /// [`StoreError::Field`] for a value the column cannot have.
    pub(super) fn becomes(&self, change: &Change, parts: &mut Parts) -> Result<Becomes, StoreError> {
        match change {
            Change::Clear => Ok(Becomes { updated: "NULL".into(), inserted: None }),
            Change::Put(value) => {
                let value = self.cast(&parts.add(text(value, self.name)?));
                Ok(Becomes { updated: value.clone(), inserted: Some(value) })
            }
            Change::Append(more) => {
                let more = parts.add(text(more, self.name)?);
                let updated = self.cast(&format!("(coalesce({}::text, '') || {more})", self.now));
                Ok(Becomes { updated, inserted: Some(self.cast(&more)) })
            }
            Change::Add(by) => self.add(*by, parts),
            Change::AddFloat(by) => self.add_float(by.text(), parts),
        }
    }

    /// A text as a value of the column.
    fn cast(&self, text: &str) -> String {
        Dialect::Postgres.value(self.column, text)
    }

    fn add(&self, by: i64, parts: &mut Parts) -> Result<Becomes, StoreError> {
        let (now, by) = (self.now, parts.add(&by.to_string()));
        let updated = match self.column.holds {
            Holds::Integers => format!("coalesce({now}, 0) + {by}::int8"),
            Holds::Numbers => {
                parts.guards.push(format!("{now} IS NULL OR {now}::numeric = trunc({now}::numeric)"));
                format!("coalesce({now}, 0) + {by}::int8")
            }
            Holds::Texts => {
                parts.must_match(now, IS_INTEGER);
                self.cast(&format!("(coalesce({now}::text, '0')::int8 + {by}::int8)::text"))
            }
            _ => return Err(self.column.refuses(self.name)),
        };
        Ok(Becomes { updated, inserted: Some(self.cast(&by)) })
    }

    fn add_float(&self, number: &str, parts: &mut Parts) -> Result<Becomes, StoreError> {
        let (now, by) = (self.now, parts.add(number));
        let has_fraction = number.parse::<f64>().ok().is_none_or(|number| number.fract() != 0.0);
        let updated = match self.column.holds {
            // Rounding would answer something else than was asked for.
            Holds::Integers if has_fraction => return Err(self.column.refuses(self.name)),
            Holds::Integers | Holds::Numbers => format!("coalesce({now}, 0) + CAST({by} AS numeric)"),
            Holds::Texts => {
                parts.must_match(now, IS_NUMBER);
                self.cast(&sum_text(&format!("coalesce({now}::text, '0')::numeric + {by}::numeric")))
            }
            _ => return Err(self.column.refuses(self.name)),
        };
        let first = match self.column.holds {
            Holds::Texts => self.cast(&sum_text(&format!("{by}::numeric"))),
            _ => format!("CAST({by} AS numeric)"),
        };
        Ok(Becomes { updated, inserted: Some(first) })
    }
}

/// A decimal as Redis writes one: at most 17 digits behind the point, none of them a needless zero.
fn sum_text(number: &str) -> String {
    format!("trim_scale(round({number}, 17))::text")
}
