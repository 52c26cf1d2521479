//! The tables that mappings may be made of, as an engine's catalog lists them.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use super::{Engine, Store, StoreError};

/// So many are listed.
const MOST: usize = 1000;

/// A table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct TableFacts {
    pub name: String,
    /// Each column with its type.
    pub columns: Vec<(String, String)>,
    /// The columns of its primary key.
    pub key: Vec<String>,
}

/// A row: the name, the columns and the key, both as JSON.
type Found = (String, String, String);

const OF_POSTGRES: &str = "SELECT c.oid::regclass::text, (SELECT json_agg(json_build_array(a.attname, \
    format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) FROM pg_attribute AS a \
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text, \
    coalesce((SELECT json_agg(a.attname ORDER BY k.at) FROM pg_index AS i, \
    unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, at) JOIN pg_attribute AS a USING (attnum) \
    WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid), '[]')::text \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND has_schema_privilege(n.oid, 'USAGE') \
    AND n.nspname NOT IN ('information_schema', 'hearthside') AND n.nspname NOT LIKE 'pg\\_%' \
    AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
    ORDER BY 1 LIMIT $1";

const OF_SQLITE: &str = "SELECT t.name, \
    (SELECT json_group_array(json_array(name, type)) FROM pragma_table_info(t.name)), \
    (SELECT json_group_array(name) FROM (SELECT name FROM pragma_table_info(t.name) WHERE pk > 0 ORDER BY pk)) \
    FROM pragma_table_list AS t WHERE t.schema = 'main' AND t.type = 'table' \
    AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
    AND t.name NOT LIKE 'hearthside%' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY 1 LIMIT $1";

/// The catalog of a database with very many tables, or one whose catalog is locked, holds nobody up for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// In a transaction, so that the limit ends with it.
async fn of_postgres(pool: &PgPool) -> Result<Vec<Found>, StoreError> {
    let mut transaction = pool.begin().await?;
    let limit = format!("SET LOCAL statement_timeout = {}", PATIENCE.as_millis());
    sqlx::query(AssertSqlSafe(limit)).execute(&mut *transaction).await?;
    let found = sqlx::query_as(OF_POSTGRES).bind(MOST as i64).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(found)
}

/// What the server's answer that it was too slow may take.
const GRACE: Duration = Duration::from_millis(500);

async fn of_sqlite(pool: &SqlitePool) -> Result<Vec<Found>, StoreError> {
    Ok(sqlx::query_as(OF_SQLITE).bind(MOST as i64).fetch_all(pool).await?)
}

fn too_slow() -> StoreError {
    let limit = PATIENCE.as_secs();
    StoreError::Unavailable(format!(
        "its catalog did not list the tables within {limit} s: is it locked, or very busy?"
    ))
}

impl TableFacts {
    fn of((name, columns, key): Found) -> Self {
        let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Self { name, columns: serde_json::from_str(&columns).unwrap_or_default(), key: read(&key) }
    }
}

impl Store {
    /// The tables that the role of `store.url` sees, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tables(&self) -> Result<Vec<TableFacts>, StoreError> {
        let finding = async {
            match &self.engine {
                Engine::Postgres(store) => of_postgres(&store.direct()).await,
                Engine::Sqlite(store) => of_sqlite(&store.pool().await?).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        // The connection may be silent, too: then the server's own limit is not heard of.
        let begun = Instant::now();
        let found = tokio::time::timeout(PATIENCE + GRACE, finding).await.unwrap_or_else(|_| Err(too_slow()));
        let found = found.map_err(|error| if begun.elapsed() < PATIENCE { error } else { too_slow() })?;
        Ok(found.into_iter().map(TableFacts::of).collect())
    }
}
