//! Values as SQLite binds them: the columns' declared types say what a value may be, since SQLite itself would take
//! anything. Knows no statement.

use serde_json::Value;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use crate::keys::PlaceholderKind;
use crate::resp::number::parse_i64;
use crate::store::StoreError;
use crate::store::catalog::relation::{Column, Holds};
use crate::store::catalog::target::text;
use crate::store::plan::Plan;

/// A value for a column.
#[derive(Clone, Debug)]
pub(super) enum Bind {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Bind {
    pub(super) fn to<'q>(&self, query: Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments> {
        match self {
            Self::Null => query.bind(None::<String>),
            Self::Integer(number) => query.bind(*number),
            Self::Real(number) => query.bind(*number),
            Self::Text(text) => query.bind(text.clone()),
        }
    }

    /// What the placeholders of a key hold; a key that is not the mapping's has no values.
    ///
    /// # Errors
    /// [`StoreError::Field`] for bytes that are no text.
    pub(super) fn key(plan: &Plan, key: &[u8]) -> Result<Vec<Self>, StoreError> {
        let bind = |((name, kind), value): ((&str, PlaceholderKind), &[u8])| match (kind, parse_i64(value)) {
            (PlaceholderKind::Int, Some(number)) => Ok(Self::Integer(number)),
            _ => Ok(Self::Text(text(value, name)?.to_owned())),
        };
        plan.mapping.pattern.placeholders().zip(plan.values(key).unwrap_or_default()).map(bind).collect()
    }

    /// A text as the column's declared type keeps it.
    pub(super) fn of(column: &Column, field: &str, value: &[u8]) -> Result<Self, StoreError> {
        let value = text(value, field)?;
        let refused = || column.refuses(field);
        let number = || value.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(refused);
        Ok(match column.holds {
            Holds::Integers => Self::Integer(parse_i64(value.as_bytes()).ok_or_else(refused)?),
            Holds::Numbers => Self::Real(number()?),
            Holds::Booleans => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => Self::Integer(1),
                "false" | "f" | "0" => Self::Integer(0),
                _ => return Err(refused()),
            },
            Holds::Json => {
                serde_json::from_str::<Value>(value).map_err(|_| refused())?;
                Self::Text(value.to_owned())
            }
            Holds::Epochs => number().map(|_| Self::Text(value.to_owned()))?,
            Holds::Times | Holds::Texts | Holds::Structures | Holds::Foreign => Self::Text(value.to_owned()),
        })
    }
}
