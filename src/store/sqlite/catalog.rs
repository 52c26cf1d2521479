//! Reads the catalog of SQLite: tables, their columns and indexes, what a statement takes and selects. The declared
//! type of a column says what SQLite's own storage classes do not: booleans, JSON and timestamps. Knows no mapping.

use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor, SqlSafeStr, SqlitePool, Statement};

use super::readers::reader;
use crate::store::StoreError;
use crate::store::catalog::described::{Described, Parameter};
use crate::store::catalog::relation::{Column, Filled, Holds, Relation, quote};
use crate::store::catalog::unique::{UniqueIndex, Weakness};

/// The catalog of the file.
#[derive(Clone, Debug)]
pub(in crate::store) struct SqliteCatalog {
    pub(super) pool: SqlitePool,
}

impl SqliteCatalog {
    pub(in crate::store) async fn relation(&self, name: &str) -> Result<Option<Relation>, StoreError> {
        // Computed columns are hidden from table_info; those of virtual tables (1) from everybody.
        let select =
            "SELECT name, type, hidden > 1, \"notnull\" FROM pragma_table_xinfo($1) WHERE hidden <> 1 ORDER BY cid";
        let columns: Vec<Found> = sqlx::query_as(select).bind(name).fetch_all(&mut *reader(&self.pool).await?).await?;
        let columns: Vec<Column> = columns.into_iter().map(column).collect();
        // Its own name, which a mapping may write in other capitals.
        let ask = "SELECT name, type IN ('view', 'virtual') FROM pragma_table_list WHERE name = $1 COLLATE NOCASE";
        let found = sqlx::query_as(ask).bind(name).fetch_optional(&mut *reader(&self.pool).await?).await?;
        let (name, has_no_indexes): (String, bool) = found.unwrap_or_else(|| (name.to_owned(), false));
        Ok((!columns.is_empty()).then(|| Relation { has_no_indexes, ..Relation::new(quote(&name), columns) }))
    }

    pub(in crate::store) async fn default_of(&self, table: &str, column: &str) -> Result<Option<String>, StoreError> {
        let select = "SELECT dflt_value FROM pragma_table_info($1) WHERE name = $2";
        let found = sqlx::query_scalar(select).bind(table).bind(column);
        let found: Option<Option<String>> = found.fetch_optional(&mut *reader(&self.pool).await?).await?;
        Ok(found.flatten())
    }

    /// Those on expressions are left out: SQLite does not say which columns they are made of.
    pub(in crate::store) async fn unique_indexes(&self, table: &str) -> Result<Vec<UniqueIndex>, StoreError> {
        let ask = "SELECT l.name, json_group_array(i.name), l.partial FROM pragma_index_list($1) AS l, \
             pragma_index_info(l.name) AS i WHERE l.\"unique\" GROUP BY l.name HAVING count(*) = count(i.name) \
             UNION ALL SELECT 'the primary key', json_group_array(name), 0 FROM pragma_table_info($1) WHERE pk > 0 \
             HAVING count(*) > 0";
        let found: Vec<(String, String, bool)> =
            sqlx::query_as(ask).bind(table).fetch_all(&mut *reader(&self.pool).await?).await?;
        let index = |(name, columns, is_partial): (String, String, bool)| UniqueIndex {
            name,
            columns: serde_json::from_str(&columns).unwrap_or_default(),
            weakness: is_partial.then_some(Weakness::Partial),
            has_children: false,
        };
        Ok(found.into_iter().map(index).collect())
    }

    pub(in crate::store) async fn describe(&self, sql: &str) -> Result<Described, StoreError> {
        let mut connection = reader(&self.pool).await?;
        // What it has prepared before may be what an earlier schema made of the same text.
        connection.clear_cached_statements().await?;
        let statement = (&mut *connection).prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
        let takes = statement.parameters().and_then(Either::right).unwrap_or(0);
        let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        Ok(Described { parameters: vec![Parameter::default(); takes], columns })
    }
}

/// A column by its name, its declared type, whether it is computed, and whether it may not be NULL.
type Found = (String, String, bool, bool);

fn column((name, declared, is_computed, is_required): Found) -> Column {
    let cast = declared.to_ascii_uppercase();
    let declares = |words: &[&str]| words.iter().any(|word| cast.contains(word));
    let holds = match () {
        () if declares(&["BOOL"]) => Holds::Booleans,
        () if declares(&["JSON"]) => Holds::Json,
        () if declares(&["TIMESTAMP", "DATETIME"]) => Holds::Times,
        () if declares(&["INT"]) => Holds::Integers,
        () if declares(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => Holds::Numbers,
        () => Holds::Texts,
    };
    let filled = if is_computed { Filled::Computed } else { Filled::ByWriter };
    Column { filled, is_required, ..Column::new(name, cast, holds) }
}
