//! Which field a refusal of Postgres is about, without its value. Knows the changes, not the statement that failed.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgPool};

use crate::errors;
use crate::record::Change;
use crate::store::StoreError;
use crate::store::catalog::relation::{Column, Holds};
use crate::store::catalog::target::{FieldChange, Target, text};
use crate::store::dialect::Dialect;

/// The changes of a statement that failed, and where it went.
pub(super) struct Failed<'w> {
    pub(super) pool: &'w PgPool,
    pub(super) target: &'w Target,
    pub(super) changes: &'w [FieldChange<'w>],
}

const OVERFLOWS: StoreError = StoreError::Value(errors::as_redis::OVERFLOWS);

impl Failed<'_> {
    /// Says which field a refusal is about.
    pub(super) async fn explain(&self, error: sqlx::Error) -> StoreError {
        let Some(refusal) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
            return StoreError::of_write(error);
        };
        let (code, column) = (refusal.code().to_owned(), refusal.column().map(str::to_owned));
        let constraint = refusal.constraint().map(str::to_owned);
        match (code.as_str(), column, constraint) {
            // A parameter that was prepared for another type: no value is at fault.
            ("22P03", ..) => StoreError::of_write(error),
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
        let ask = "SELECT a.attname::text FROM pg_constraint c \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) \
             WHERE c.conname = $1 AND c.conrelid = to_regclass($2)";
        let columns = sqlx::query_scalar(ask).bind(constraint).bind(&self.target.table).fetch_all(self.pool).await;
        let columns: Vec<String> = columns.unwrap_or_default();
        let changed = self.changes.iter().filter_map(FieldChange::column);
        let named: Vec<&str> =
            changed.filter(|(_, column)| columns.contains(&column.name)).map(|(name, _)| name).collect();
        let fields = if named.is_empty() { columns.join("', '") } else { named.join("', '") };
        StoreError::field(&fields, format!("the constraint '{constraint}' forbids the value"))
    }

    /// Which of the values the database does not take: it is asked about each, where there are several.
    async fn culprit(&self, code: &str) -> Option<StoreError> {
        for change in self.changes {
            let Some((_, column)) = change.column() else {
                if matches!(change.change, Change::Add(_)) {
                    return Some(OVERFLOWS);
                }
                continue;
            };
            match change.change {
                Change::Add(_) if code == "22003" && overflows_as_in_redis(column) => return Some(OVERFLOWS),
                _ if self.changes.len() == 1 => return Some(column.refuses(change.field)),
                Change::Put(value) if self.refuses(column, text(value, change.field).ok()?).await => {
                    return Some(column.refuses(change.field));
                }
                _ => {}
            }
        }
        let fields: Vec<&str> = self.changes.iter().filter_map(FieldChange::column).map(|(name, _)| name).collect();
        (!fields.is_empty()).then(|| StoreError::field(&fields.join("' or '"), "its column refuses the value"))
    }

    /// Asks the database whether a text is no value of a column.
    async fn refuses(&self, column: &Column, value: &str) -> bool {
        let ask = format!("SELECT {} IS NULL", Dialect::Postgres.value(column, "$1::text"));
        let asked = sqlx::query(AssertSqlSafe(ask)).bind(value).execute(self.pool).await;
        matches!(asked, Err(sqlx::Error::Database(_)))
    }
}

/// A sum that its type cannot hold is one that Redis could not hold either.
fn overflows_as_in_redis(column: &Column) -> bool {
    column.holds == Holds::Texts || column.cast.ends_with("int8")
}
