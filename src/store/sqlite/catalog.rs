//! Makes a mapping's statements from `pragma_table_info`. The declared type of a column says what SQLite's
//! own storage classes do not: booleans, JSON and timestamps.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Column as _, Either, Executor, SqlSafeStr, SqlitePool, Statement};

use super::JSON;
use crate::config::{DeleteMode, MappingConfig, Timestamps};
use crate::keys::HoleKind;
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::columns::{
    LEFT, check_overflow, check_table, list_parameters, must_select_key, needs_unique, query_faults, quote,
    selects_key, shows, unique_columns,
};
use crate::store::listing::{Listing, has_value, source};
use crate::store::plan::{KeySource, ListStatement, ListStatements, Plan, key_column};
use crate::store::target::{Column, Holds, Surety, Target};

struct TableColumn {
    name: String,
    declared: String,
}

pub(super) async fn plan(pool: &SqlitePool, mapping: &Mapping) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let plan = match (&block.table, &block.query) {
        (Some(table), _) => table_plan(pool, mapping, table).await,
        (None, Some(query)) => query_plan(pool, mapping, query).await,
        (None, None) => Err(StoreError::fault("table", "has no table and no query")),
    }?;
    Ok(plan.with_listing(listing(pool, mapping).await?))
}

/// Where a cached mapping's keys are listed.
async fn listing(pool: &SqlitePool, mapping: &Mapping) -> Result<Option<Listing>, StoreError> {
    let block = &mapping.config;
    let Some((name, keys)) = source(mapping).filter(|_| mapping.kind == Kind::Cache) else { return Ok(None) };
    let columns = columns(pool, &name).await?;
    if !keys.iter().all(|key| columns.iter().any(|c| c.name == *key)) {
        return Ok(None);
    }
    let shown: Vec<String> = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| c.name.clone()).collect();
    let mut conditions = has_value(block, &shown, |name| format!("coalesce({name}, '{{}}') <> '{{}}'"));
    if let Some(column) = block.expires_column.as_deref().map(quote) {
        conditions.push_str(&format!(
            " AND ({column} IS NULL OR unixepoch({column}, 'subsec') > unixepoch('now', 'subsec'))"
        ));
    }
    let is_text = |key: &String| columns.iter().any(|c| c.name == *key && !c.declared.contains("INT"));
    // Without casts a key is compared as a number.
    let casts = if keys.iter().any(is_text) { vec!["TEXT".to_owned(); keys.len()] } else { Vec::new() };
    Ok(Some(Listing { table: quote(&name), keys: keys.iter().map(|key| quote(key)).collect(), casts, conditions }))
}

async fn columns(pool: &SqlitePool, table: &str) -> Result<Vec<TableColumn>, StoreError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY cid").bind(table).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(name, declared)| TableColumn { name, declared: declared.to_ascii_uppercase() }).collect())
}

async fn default_of(pool: &SqlitePool, table: &str, column: &str) -> Result<Option<String>, StoreError> {
    let select = "SELECT dflt_value FROM pragma_table_info($1) WHERE name = $2";
    let found: Option<Option<String>> =
        sqlx::query_scalar(select).bind(table).bind(column).fetch_optional(pool).await?;
    Ok(found.flatten())
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
    if let Some(column) = columns.iter().find(|c| block.overflow.as_deref() == Some(&c.name)) {
        check_overflow(&column.name, &column.declared, default_of(pool, table, &column.name).await?.as_deref())?;
    }
    let shown = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| expression(block, c));
    let extra =
        keys.iter().enumerate().map(|(i, key)| format!("CAST({} AS TEXT) AS {}", quote(key), quote(&key_column(i))));
    let left = block.expires_column.iter().map(|name| {
        let name = quote(name);
        format!(
            "CAST(round((unixepoch({name}, 'subsec') - unixepoch('now', 'subsec')) * 1000) AS INTEGER) AS {}",
            quote(LEFT)
        )
    });
    let select: Vec<String> = shown.chain(extra).chain(left).collect();
    let from = format!("SELECT {} FROM {}", select.join(", "), quote(table));
    if mapping.kind == Kind::Definition {
        let all = format!("{from} ORDER BY rowid");
        return Ok(Plan::new(mapping, String::new(), all, Vec::new(), KeySource::Extra));
    }
    let filter: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{} = ${}", quote(key), i + 1)).collect();
    let one = format!("{from} WHERE {}", filter.join(" AND "));
    let mut plan = Plan::new(mapping, one, String::new(), Vec::new(), KeySource::Extra);
    if block.writes_table() || block.delete == DeleteMode::Row || block.expires_column.is_some() {
        plan.target = Some(target(pool, mapping, table, &columns, select.join(", ")).await?);
    }
    Ok(plan)
}

/// Where writes go; what they find by must be unique.
async fn target(
    pool: &SqlitePool,
    mapping: &Mapping,
    table: &str,
    columns: &[TableColumn],
    shown: String,
) -> Result<Target, StoreError> {
    let block = &mapping.config;
    let keys = mapping.columns(&block.key_columns);
    let unique = unique_columns(block, &keys);
    let found: bool = sqlx::query_scalar(
        "WITH wanted (name) AS (SELECT value FROM json_each($2)), \
         indexes (name, part) AS (SELECT l.name, i.name FROM pragma_index_list($1) AS l, pragma_index_info(l.name) AS i \
         WHERE l.\"unique\" AND NOT l.partial UNION ALL SELECT '', name FROM pragma_table_info($1) WHERE pk > 0) \
         SELECT EXISTS (SELECT 1 FROM indexes GROUP BY name HAVING count(*) = (SELECT count(*) FROM wanted) \
         AND count(*) = sum(part IN (SELECT name FROM wanted)))",
    )
    .bind(table)
    .bind(serde_json::Value::from(unique.clone()).to_string())
    .fetch_one(pool)
    .await?;
    if !found && block.writes_table() {
        return Err(StoreError::fault("write", needs_unique(&unique)));
    }
    let columns = columns.iter().map(|c| c.target(block));
    Target::of(mapping, (quote(table), shown), Vec::new(), columns, Surety::Told).checked(block)
}

impl TableColumn {
    fn target(&self, block: &MappingConfig) -> Column {
        let declares = |words: &[&str]| words.iter().any(|word| self.declared.contains(word));
        let holds = match block.timestamps {
            _ if declares(&["BOOL"]) => Holds::Booleans,
            _ if declares(&["JSON"]) => Holds::Json,
            Timestamps::Epoch if declares(&["TIMESTAMP", "DATETIME"]) => Holds::Epochs,
            Timestamps::Rfc3339 if declares(&["TIMESTAMP", "DATETIME"]) => Holds::Times,
            _ if declares(&["INT"]) => Holds::Integers,
            _ if declares(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => Holds::Numbers,
            _ => Holds::Texts,
        };
        Column { name: self.name.clone(), cast: self.declared.clone(), holds, zone: None }
    }
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
    // One connection is held: in memory there is no other.
    let list = list_statements(&mut connection, mapping).await?;
    Ok(match mapping.kind {
        Kind::Definition => Plan::new(mapping, String::new(), query.to_owned(), Vec::new(), source),
        Kind::Cache => Plan::new(mapping, query.to_owned(), String::new(), Vec::new(), source).with_list(list),
    })
}

/// `push` takes the holes and an element, `remove` LREM's count too.
async fn list_statements(connection: &mut SqliteConnection, mapping: &Mapping) -> Result<ListStatements, StoreError> {
    let block = &mapping.config;
    let holes = mapping.pattern.holes().count();
    let (mut faults, mut statements) = (Vec::new(), ListStatements::default());
    for (key, sql, most, statement) in [
        ("push", &block.push, holes + 1, &mut statements.push),
        ("remove", &block.remove, holes + 2, &mut statements.remove),
    ] {
        let Some(sql) = sql else { continue };
        match (&mut *connection).prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await.map_err(StoreError::from) {
            Err(StoreError::Refused(text)) => faults.push((key, text)),
            Err(other) => return Err(other),
            Ok(prepared) => {
                let takes = prepared.parameters().and_then(Either::right).unwrap_or(0);
                if takes <= holes || takes > most {
                    faults.push((key, list_parameters(takes, holes)));
                }
                *statement = Some(ListStatement { sql: sql.clone(), takes_count: takes == holes + 2 });
            }
        }
    }
    if faults.is_empty() { Ok(statements) } else { Err(StoreError::Faults(faults)) }
}
