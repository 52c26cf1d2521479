//! Which field a refusal of Postgres is about, without its value. Knows the changes, not the statement that failed.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgDatabaseError;

use super::questions::Questions;
use crate::errors;
use crate::record::Change;
use crate::store::StoreError;
use crate::store::catalog::relation::{Column, Holds};
use crate::store::catalog::target::{FieldChange, Target, text};
use crate::store::dialect::Dialect;
use crate::store::error::UNTRANSLATABLE;

/// The changes of a statement that failed, and where it went.
pub(super) struct Failed<'w> {
    pub(super) questions: &'w Questions,
    pub(super) target: &'w Target,
    pub(super) changes: &'w [FieldChange<'w>],
}

/// The columns of a table that a constraint or index is about, by its name: it may be that of the same column in a
/// partition, or a domain's.
const CONSTRAINED: &str = "WITH ours AS (SELECT to_regclass($2)::oid AS oid UNION ALL \
    SELECT relid::oid FROM pg_partition_tree(to_regclass($2)) WHERE level > 0) \
    SELECT DISTINCT a.attname::text FROM ours JOIN pg_attribute a ON a.attrelid = ours.oid \
    WHERE a.attnum > 0 AND NOT a.attisdropped AND (\
    EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = $1 AND c.conrelid = ours.oid \
    AND a.attnum = ANY (c.conkey)) \
    OR EXISTS (SELECT 1 FROM pg_constraint c JOIN pg_type d ON d.oid = c.contypid WHERE c.conname = $1 \
    AND d.oid = a.atttypid) \
    OR EXISTS (SELECT 1 FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid JOIN pg_depend d ON d.objid = n.oid \
    WHERE i.indrelid = ours.oid AND n.relname = $1 AND d.refobjid = ours.oid AND d.refobjsubid = a.attnum)) ORDER BY 1";

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
            ("22P05", ..) => self.untranslatable(error).await,
            ("23502", Some(column), _) => StoreError::field(&column, "its column must have a value (NOT NULL)"),
            (class, _, Some(constraint)) if class.starts_with("23") => self.constrained(&constraint).await,
            (class, ..) if class.starts_with("22") => match self.culprit(&code).await {
                Some(error) => error,
                None => StoreError::of_write(error),
            },
            _ => StoreError::of_write(error),
        }
    }

    /// Which field has characters, in its value or its name, that the database's encoding lacks.
    async fn untranslatable(&self, error: sqlx::Error) -> StoreError {
        let Ok(asking) = self.questions.turn().await else { return StoreError::of_write(error) };
        for change in self.changes {
            let value = match change.change {
                Change::Put(value) => text(value, change.field).unwrap_or_default(),
                _ => "",
            };
            let asked = sqlx::query("SELECT $1::text, $2::text").bind(change.field).bind(value);
            if matches!(asked.execute(asking.pool()).await, Err(sqlx::Error::Database(_))) {
                return StoreError::field(change.field, UNTRANSLATABLE);
            }
        }
        StoreError::of_write(error)
    }

    /// A check, a foreign key, a unique index or a domain's check: its columns that are among the changed ones, or else
    /// those of our table.
    async fn constrained(&self, constraint: &str) -> StoreError {
        let columns = self.columns_of(constraint).await.unwrap_or_default();
        let is_about = |change: &&FieldChange<'_>| change.column().is_some_and(|(_, one)| columns.contains(&one.name));
        let named: Vec<&str> = self.changes.iter().filter(is_about).map(|change| change.field).collect();
        let fields = if named.is_empty() { columns.join("', '") } else { named.join("', '") };
        match named.is_empty() && columns.is_empty() {
            true => StoreError::Data(format!("the constraint '{constraint}' forbids it")),
            false => StoreError::field(&fields, format!("the constraint '{constraint}' forbids the value")),
        }
    }

    /// `None` where that cannot be asked.
    async fn columns_of(&self, constraint: &str) -> Option<Vec<String>> {
        let asking = self.questions.turn().await.ok()?;
        let columns = sqlx::query_scalar(CONSTRAINED).bind(constraint).bind(&self.target.table);
        columns.fetch_all(asking.pool()).await.ok()
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
        let Ok(asking) = self.questions.turn().await else { return false };
        let asked = sqlx::query(AssertSqlSafe(ask)).bind(value).execute(asking.pool()).await;
        matches!(asked, Err(sqlx::Error::Database(_)))
    }
}

/// A sum that its type cannot hold is one that Redis could not hold either.
fn overflows_as_in_redis(column: &Column) -> bool {
    column.holds == Holds::Texts || column.cast.ends_with("int8")
}
