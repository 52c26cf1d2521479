//! Makes a mapping's statements from `pragma_table_info`. The declared type of a column says what SQLite's
//! own storage classes do not: booleans, JSON and timestamps.

use sqlx::{AssertSqlSafe, Column as _, Either, Executor, SqlSafeStr, SqlitePool, Statement};

use super::JSON;
use crate::config::{MappingConfig, Timestamps};
use crate::keys::HoleKind;
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::columns::{check_table, must_select_key, query_faults, quote, selects_key, shows};
use crate::store::plan::{KeySource, Plan, key_column};

struct TableColumn {
    name: String,
    declared: String,
}

pub(super) async fn plan(pool: &SqlitePool, mapping: &Mapping) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    match (&block.table, &block.query) {
        (Some(table), _) => table_plan(pool, mapping, table).await,
        (None, Some(query)) => query_plan(pool, mapping, query).await,
        (None, None) => Err(StoreError::fault("table", "has no table and no query")),
    }
}

async fn columns(pool: &SqlitePool, table: &str) -> Result<Vec<TableColumn>, StoreError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY cid").bind(table).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(name, declared)| TableColumn { name, declared: declared.to_ascii_uppercase() }).collect())
}

async fn table_plan(pool: &SqlitePool, mapping: &Mapping, table: &str) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let columns = columns(pool, table).await?;
    if columns.is_empty() {
        return Err(StoreError::fault("table", format!("there is no table '{table}'")));
    }
    let keys = mapping.columns(&block.key_columns);
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    check_table(block, table, &keys, &names)?;
    let shown = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| expression(block, c));
    let extra =
        keys.iter().enumerate().map(|(i, key)| format!("CAST({} AS TEXT) AS {}", quote(key), quote(&key_column(i))));
    let select: Vec<String> = shown.chain(extra).collect();
    let from = format!("SELECT {} FROM {}", select.join(", "), quote(table));
    Ok(match mapping.kind {
        Kind::Definition => {
            Plan::new(mapping, String::new(), format!("{from} ORDER BY rowid"), Vec::new(), KeySource::Extra)
        }
        Kind::Cache => {
            let filter: Vec<String> =
                keys.iter().enumerate().map(|(i, key)| format!("{} = ${}", quote(key), i + 1)).collect();
            Plan::new(
                mapping,
                format!("{from} WHERE {}", filter.join(" AND ")),
                String::new(),
                Vec::new(),
                KeySource::Extra,
            )
        }
    })
}

fn expression(block: &MappingConfig, column: &TableColumn) -> String {
    let name = quote(&column.name);
    if column.declared.contains("JSON") && block.overflow.as_deref() != Some(&column.name) {
        return format!("{name} AS {}", quote(&format!("{JSON}{}", column.name)));
    }
    if column.declared.contains("TIMESTAMP") || column.declared.contains("DATETIME") {
        return match block.timestamps {
            Timestamps::Rfc3339 => format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', {name}) AS {name}"),
            // Whole seconds as an integer, a fraction only where there is one.
            Timestamps::Epoch => format!(
                "CASE WHEN unixepoch({name}, 'subsec') = unixepoch({name}) THEN unixepoch({name}) ELSE unixepoch({name}, 'subsec') END AS {name}"
            ),
        };
    }
    name
}

async fn query_plan(pool: &SqlitePool, mapping: &Mapping, query: &str) -> Result<Plan, StoreError> {
    let query = query.trim().trim_end_matches(';');
    let mut connection = pool.acquire().await?;
    let prepared = (&mut *connection).prepare(AssertSqlSafe(query.to_owned()).into_sql_str()).await;
    let statement = match prepared.map_err(StoreError::from) {
        Err(StoreError::Refused(text)) => return Err(StoreError::fault("query", text)),
        other => other?,
    };
    let selected: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
    let takes = match statement.parameters() {
        Some(Either::Right(count)) => count,
        _ => 0,
    };
    let named = selects_key(mapping, &selected);
    let mut faults = query_faults(mapping, &selected, takes);
    // SQLite would compare '007' to a number as 7.
    let one_spelling = mapping.pattern.holes().all(|(_, kind)| kind == HoleKind::Int);
    if mapping.kind == Kind::Cache && !named && !one_spelling {
        faults.push(must_select_key(mapping));
    }
    if !faults.is_empty() {
        return Err(StoreError::Faults(faults));
    }
    let source = if named { KeySource::Named } else { KeySource::Bound };
    Ok(match mapping.kind {
        Kind::Definition => Plan::new(mapping, String::new(), query.to_owned(), Vec::new(), source),
        Kind::Cache => Plan::new(mapping, query.to_owned(), String::new(), Vec::new(), source),
    })
}
