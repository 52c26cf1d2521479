//! Which field a refusal of Postgres is about, without telling its value.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgPool};

use super::expression::cast;
use crate::record::Change;
use crate::store::StoreError;
use crate::store::target::{Column, Holds, Place, Target, text};

/// The changes of a statement that failed, and where it went.
pub(super) struct Failed<'w> {
    pub(super) pool: &'w PgPool,
    pub(super) target: &'w Target,
    pub(super) changes: &'w [(&'w str, Place<'w>, &'w Change)],
}

impl Failed<'_> {
    /// Says which field a refusal is about.
    pub(super) async fn explain(&self, error: sqlx::Error) -> StoreError {
        let Some(told) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
            return StoreError::of_write(error);
        };
        let (code, column) = (told.code().to_owned(), told.column().map(str::to_owned));
        let constraint = told.constraint().map(str::to_owned);
        match (code.as_str(), column, constraint) {
            ("23502", Some(column), _) => StoreError::field(&column, "its column must have a value (NOT NULL)"),
            (class, _, Some(constraint)) if class.starts_with("23") => self.constrained(&constraint).await,
            (class, ..) if class.starts_with("22") => match self.culprit(&code).await {
                Some(error) => error,
                None => StoreError::of_write(error),
            },
            _ => StoreError::of_write(error),
        }
    }

    /// A check, a foreign key or a unique index: its columns that are among the changed ones.
    async fn constrained(&self, constraint: &str) -> StoreError {
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) \
             WHERE c.conname = $1 AND c.conrelid = to_regclass($2)",
        )
        .bind(constraint)
        .bind(&self.target.table)
        .fetch_all(self.pool)
        .await
        .unwrap_or_default();
        let named = self.changes.iter().filter_map(|(field, place, _)| match place {
            Place::Column(column) if columns.contains(&column.name) => Some(shown(field, column)),
            _ => None,
        });
        let named: Vec<&str> = named.collect();
        let fields = if named.is_empty() { columns.join("', '") } else { named.join("', '") };
        StoreError::field(&fields, format!("the constraint '{constraint}' forbids the value"))
    }

    /// Asks the database which of the values it does not take.
    async fn culprit(&self, code: &str) -> Option<StoreError> {
        for (field, place, change) in self.changes {
            let column = match place {
                Place::Column(column) => column,
                Place::Member(_) if matches!(change, Change::Add(_)) => {
                    return Some(StoreError::Value("ERR increment or decrement would overflow"));
                }
                Place::Member(_) => continue,
            };
            match change {
                Change::Add(_)
                    if code == "22003" && (column.holds == Holds::Texts || column.cast.ends_with("int8")) =>
                {
                    return Some(StoreError::Value("ERR increment or decrement would overflow"));
                }
                Change::Put(value) if self.changes.len() > 1 => {
                    let value = text(value, field).ok()?;
                    let asked = format!("SELECT {} IS NULL", cast(column, "$1::text"));
                    let asked = sqlx::query(AssertSqlSafe(asked)).bind(value).execute(self.pool).await;
                    if matches!(asked, Err(sqlx::Error::Database(_))) {
                        return Some(column.refuses(field));
                    }
                }
                _ if self.changes.len() == 1 => return Some(column.refuses(field)),
                _ => {}
            }
        }
        let fields: Vec<&str> = self
            .changes
            .iter()
            .filter_map(|(field, place, _)| match place {
                Place::Column(column) => Some(shown(field, column)),
                Place::Member(_) => None,
            })
            .collect();
        (!fields.is_empty()).then(|| StoreError::field(&fields.join("' or '"), "its column refuses the value"))
    }
}

fn shown<'s>(field: &'s str, column: &'s Column) -> &'s str {
    if field.is_empty() { &column.name } else { field }
}
