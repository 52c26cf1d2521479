//! Makes a mapping's statements from the catalog: which columns there are, of which types.

use sqlx::{AssertSqlSafe, Column as _, Either, Executor, PgPool, SqlSafeStr, Statement, TypeInfo};

use super::params;
use crate::config::{MappingConfig, Timestamps};
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::columns::{ColumnFault, check_table, query_faults, quote, selects_key, shows};
use crate::store::plan::{KeySource, Param, Plan, key_column};

pub(super) async fn plan(pool: &PgPool, mapping: &Mapping) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let mut faults = missing_watch_columns(pool, mapping).await?;
    let planned = match (&block.table, &block.query) {
        (Some(table), _) => table_plan(pool, mapping, table).await,
        (None, Some(query)) => query_plan(pool, mapping, query).await,
        (None, None) => Err(StoreError::fault("table", "has no table and no query")),
    };
    match planned {
        Ok(plan) if faults.is_empty() => Ok(plan),
        Ok(_) => Err(StoreError::Faults(faults)),
        Err(StoreError::Faults(more)) => {
            faults.extend(more);
            Err(StoreError::Faults(faults))
        }
        Err(other) => Err(other),
    }
}

struct TableColumn {
    name: String,
    kind: String,
}

impl TableColumn {
    fn is_time(&self) -> bool {
        matches!(self.kind.as_str(), "timestamp" | "timestamptz")
    }
}

/// The table's quoted name and its columns; `None` when there is no such table.
async fn table(pool: &PgPool, name: &str) -> Result<Option<(String, Vec<TableColumn>)>, StoreError> {
    let known: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text").bind(name).fetch_one(pool).await?;
    let Some(quoted) = known else { return Ok(None) };
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .bind(name)
    .fetch_all(pool)
    .await?;
    Ok(Some((quoted, columns.into_iter().map(|(name, kind)| TableColumn { name, kind }).collect())))
}

async fn missing_watch_columns(pool: &PgPool, mapping: &Mapping) -> Result<Vec<ColumnFault>, StoreError> {
    let mut faults = Vec::new();
    for (name, wanted) in mapping.watched().into_iter().skip(usize::from(mapping.config.table.is_some())) {
        match table(pool, &name).await? {
            None => faults.push(("watch", format!("there is no table '{name}'"))),
            Some((_, columns)) => {
                let missing = wanted.into_iter().flatten().filter(|w| columns.iter().all(|c| c.name != *w));
                faults.extend(missing.map(|column| ("watch", format!("table '{name}' has no column '{column}'"))));
            }
        }
    }
    Ok(faults)
}

async fn table_plan(pool: &PgPool, mapping: &Mapping, name: &str) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let Some((quoted, columns)) = table(pool, name).await? else {
        return Err(StoreError::fault("table", format!("there is no table '{name}'")));
    };
    let keys = mapping.columns(&block.key_columns);
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    check_table(block, name, &keys, &names)?;
    let shown = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| expression(block, c));
    let extra = keys.iter().enumerate().map(|(i, key)| format!("{}::text AS {}", quote(key), quote(&key_column(i))));
    let select: Vec<String> = shown.chain(extra).collect();
    let from = format!("SELECT {} FROM {quoted}", select.join(", "));
    if mapping.kind == Kind::Definition {
        let order = keys.iter().map(|key| quote(key)).collect::<Vec<_>>().join(", ");
        return Ok(Plan::new(
            mapping,
            String::new(),
            as_json(&format!("{from} ORDER BY {order}")),
            Vec::new(),
            KeySource::Extra,
        ));
    }
    let filter: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{} = ${}", quote(key), i + 1)).collect();
    let one = as_json(&format!("{from} WHERE {}", filter.join(" AND ")));
    let described = describe(pool, &one).await?;
    // A table's rows tell their own keys, so a type with several spellings may be bound as text.
    let params = described.params.into_iter().map(|(param, _)| param.unwrap_or(Param::Text)).collect();
    Ok(Plan::new(mapping, one, String::new(), params, KeySource::Extra))
}

fn expression(block: &MappingConfig, column: &TableColumn) -> String {
    let name = quote(&column.name);
    if column.is_time() && block.timestamps == Timestamps::Epoch {
        return format!("trim_scale(extract(epoch FROM {name})::numeric) AS {name}");
    }
    name
}

/// Any row as JSON text: every type has its text form, whatever the driver knows.
fn as_json(sql: &str) -> String {
    format!("SELECT row_to_json(hearthside_row)::text FROM ({sql}) AS hearthside_row")
}

struct Described {
    /// How each parameter is bound, and its type's name.
    params: Vec<(Option<Param>, String)>,
    columns: Vec<String>,
}

async fn describe(pool: &PgPool, sql: &str) -> Result<Described, StoreError> {
    let mut connection = pool.acquire().await?;
    let statement = (&mut *connection).prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
    let params = match statement.parameters() {
        Some(Either::Left(infos)) => infos.iter().map(|info| (params::param(info), info.name().to_owned())).collect(),
        _ => Vec::new(),
    };
    let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    Ok(Described { params, columns })
}

async fn query_plan(pool: &PgPool, mapping: &Mapping, query: &str) -> Result<Plan, StoreError> {
    let query = query.trim().trim_end_matches(';');
    let described = match describe(pool, query).await {
        Err(StoreError::Refused(text)) => return Err(StoreError::fault("query", text)),
        other => other?,
    };
    let selected: Vec<&str> = described.columns.iter().map(String::as_str).collect();
    let mut faults = query_faults(mapping, &selected, described.params.len());
    let named = selects_key(mapping, &selected);
    for (i, (param, kind)) in described.params.iter().enumerate() {
        if param.is_none() && !named {
            let advice =
                format!("has several spellings per value; select the holes as columns, or write ${}::text", i + 1);
            faults.push(("query", format!("parameter ${} of type {kind} {advice}", i + 1)));
        }
    }
    if !faults.is_empty() {
        return Err(StoreError::Faults(faults));
    }
    let params = described.params.into_iter().map(|(param, _)| param.unwrap_or(Param::Text)).collect();
    let source = if named { KeySource::Named } else { KeySource::Bound };
    let sql = as_json(query);
    Ok(match mapping.kind {
        Kind::Definition => Plan::new(mapping, String::new(), sql, params, source),
        Kind::Cache => Plan::new(mapping, sql, String::new(), params, source),
    })
}
