//! Makes a mapping's statements from the catalog: which columns there are, of which types.

use sqlx::{AssertSqlSafe, Column as _, Either, Executor, PgPool, SqlSafeStr, Statement, TypeInfo};

use super::params;
use super::zone::{self, Zone};
use crate::config::{DeleteMode, MappingConfig, Timestamps};
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::columns::{
    ColumnFault, LEFT, check_overflow, check_table, list_parameters, needs_unique, query_faults, quote, selects_key,
    shows, unique_columns,
};
use crate::store::listing::{Listing, has_value, source};
use crate::store::plan::{KeySource, ListStatement, ListStatements, Param, Plan, key_column};
use crate::store::target::{Column, Holds, Surety, Target};

/// `told` is the zone that the settings say (`store.timezone`), empty if none.
pub(super) async fn plan(pool: &PgPool, mapping: &Mapping, told: &str) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let mut faults = missing_watch_columns(pool, mapping).await?;
    let zone = zone_of(pool, mapping, told).await?;
    let planned = match (&block.table, &block.query) {
        (Some(table), _) => table_plan(pool, mapping, table, zone.as_ref()).await,
        (None, Some(query)) => query_plan(pool, mapping, query).await,
        (None, None) => Err(StoreError::fault("table", "has no table and no query")),
    };
    match planned {
        Ok(plan) if faults.is_empty() => Ok(plan.with_listing(listing(pool, mapping, zone.as_ref()).await?)),
        Ok(_) => Err(StoreError::Faults(faults)),
        Err(StoreError::Faults(more)) => {
            faults.extend(more);
            Err(StoreError::Faults(faults))
        }
        Err(other) => Err(other),
    }
}

/// The zone in which the mapping's table holds moments, if some that matter do not say: when a row ends, or seconds
/// since 1970.
async fn zone_of(pool: &PgPool, mapping: &Mapping, told: &str) -> Result<Option<Zone>, StoreError> {
    let block = &mapping.config;
    let Some(name) = &block.table else { return Ok(None) };
    let Some((quoted, columns)) = table(pool, name, None).await? else { return Ok(None) };
    match columns.iter().any(|c| c.is_unzoned(block)) {
        true => {
            let zone = zone::of(pool, told, &quoted).await?;
            if !zone.is_utc() {
                let text = "moments in columns without time zone are taken to be in this zone";
                tracing::info!(table = quoted, zone = zone.name, "{text}");
            }
            Ok(Some(zone))
        }
        false => Ok(None),
    }
}

/// What is told of a zone that is not certain.
fn doubts(block: &MappingConfig, columns: &[TableColumn], zone: Option<&Zone>) -> Vec<ColumnFault> {
    let Some((zone, why)) = zone.and_then(|zone| Some((&zone.name, zone.doubt.as_ref()?))) else { return Vec::new() };
    let doubt = |column: &TableColumn| {
        let is_end = block.expires_column.as_deref() == Some(&column.name);
        let key = if is_end { "expires_column" } else { "timestamps" };
        let text = format!(
            "the column '{}' is a timestamp without time zone, and {why}: it is read as {zone}; make it a timestamptz, \
             or say its zone (store.timezone)",
            column.name
        );
        (key, text)
    };
    columns.iter().filter(|column| column.is_unzoned(block)).map(doubt).collect()
}

/// Where a cached mapping's keys are listed.
async fn listing(pool: &PgPool, mapping: &Mapping, zone: Option<&Zone>) -> Result<Option<Listing>, StoreError> {
    let block = &mapping.config;
    let Some((name, keys)) = source(mapping).filter(|_| mapping.kind == Kind::Cache) else { return Ok(None) };
    let Some((table, columns)) = table(pool, &name, zone).await? else { return Ok(None) };
    let shown: Vec<String> = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| c.name.clone()).collect();
    let mut conditions =
        has_value(block, &shown, |name| format!("coalesce({name}::jsonb, '{{}}'::jsonb) <> '{{}}'::jsonb"));
    if let Some(column) = columns.iter().find(|c| block.expires_column.as_deref() == Some(&c.name)) {
        let (name, ends) = (quote(&column.name), column.moment());
        conditions.push_str(&format!(" AND ({name} IS NULL OR {ends} > clock_timestamp())"));
    }
    let cast = |key: &String| columns.iter().find(|c| c.name == *key).map(|c| c.cast.clone());
    let Some(casts) = keys.iter().map(cast).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let keys = keys.iter().map(|key| quote(key)).collect();
    Ok(Some(Listing { table, keys, casts, conditions }))
}

struct TableColumn {
    name: String,
    kind: String,
    /// The type's name with its schema, quoted.
    cast: String,
    /// In which zone it holds moments, where it does not say and that is known.
    zone: Option<String>,
}

impl TableColumn {
    fn is_time(&self) -> bool {
        matches!(self.kind.as_str(), "timestamp" | "timestamptz")
    }

    /// True for moments without a zone that have to be told from others.
    fn is_unzoned(&self, block: &MappingConfig) -> bool {
        let is_end = block.expires_column.as_deref() == Some(&self.name);
        let is_shown = shows(block, &[], &self.name) && block.timestamps == Timestamps::Epoch;
        self.kind == "timestamp" && (is_end || is_shown)
    }

    /// The moment that it means, as an expression.
    fn moment(&self) -> String {
        zone::moment(&quote(&self.name), self.zone.as_deref())
    }

    fn target(&self, block: &MappingConfig) -> Column {
        let holds = match self.kind.as_str() {
            "int2" | "int4" | "int8" => Holds::Integers,
            "numeric" | "float4" | "float8" => Holds::Numbers,
            "bool" => Holds::Booleans,
            "json" | "jsonb" => Holds::Json,
            _ if self.is_time() && block.timestamps == Timestamps::Epoch => Holds::Epochs,
            _ if self.is_time() => Holds::Times,
            _ => Holds::Texts,
        };
        Column { name: self.name.clone(), cast: self.cast.clone(), holds, zone: self.zone.clone() }
    }
}

/// The table's quoted name and its columns, which hold moments in `zone` where they do not say; `None` when there is no
/// such table.
async fn table(
    pool: &PgPool,
    name: &str,
    zone: Option<&Zone>,
) -> Result<Option<(String, Vec<TableColumn>)>, StoreError> {
    let known: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text").bind(name).fetch_one(pool).await?;
    let Some(quoted) = known else { return Ok(None) };
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT a.attname::text, t.typname::text, quote_ident(n.nspname) || '.' || quote_ident(t.typname) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .bind(name)
    .fetch_all(pool)
    .await?;
    let column = |(name, kind, cast): (String, String, String)| {
        let zone = zone.filter(|_| kind == "timestamp").map(|zone| zone.name.clone());
        TableColumn { name, kind, cast, zone }
    };
    Ok(Some((quoted, columns.into_iter().map(column).collect())))
}

async fn missing_watch_columns(pool: &PgPool, mapping: &Mapping) -> Result<Vec<ColumnFault>, StoreError> {
    let mut faults = Vec::new();
    for (name, wanted) in mapping.watched().into_iter().skip(usize::from(mapping.config.table.is_some())) {
        match table(pool, &name, None).await? {
            None => faults.push(("watch", format!("there is no table '{name}'"))),
            Some((_, columns)) => {
                let missing = wanted.into_iter().flatten().filter(|w| columns.iter().all(|c| c.name != *w));
                faults.extend(missing.map(|column| ("watch", format!("table '{name}' has no column '{column}'"))));
            }
        }
    }
    Ok(faults)
}

async fn default_of(pool: &PgPool, table: &str, column: &str) -> Result<Option<String>, StoreError> {
    let select = "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d \
         JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
         WHERE a.attrelid = to_regclass($1) AND a.attname = $2";
    let found: Option<Option<String>> =
        sqlx::query_scalar(select).bind(table).bind(column).fetch_optional(pool).await?;
    Ok(found.flatten())
}

async fn table_plan(pool: &PgPool, mapping: &Mapping, name: &str, zone: Option<&Zone>) -> Result<Plan, StoreError> {
    let block = &mapping.config;
    let Some((quoted, columns)) = table(pool, name, zone).await? else {
        return Err(StoreError::fault("table", format!("there is no table '{name}'")));
    };
    let keys = mapping.columns(&block.key_columns);
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    check_table(block, name, &keys, &names)?;
    if let Some(column) = columns.iter().find(|c| block.overflow.as_deref() == Some(&c.name)) {
        check_overflow(&column.name, &column.kind, default_of(pool, name, &column.name).await?.as_deref())?;
    }
    let shown = columns.iter().filter(|c| shows(block, &keys, &c.name)).map(|c| expression(block, c));
    let extra = keys.iter().enumerate().map(|(i, key)| format!("{}::text AS {}", quote(key), quote(&key_column(i))));
    let doubts = doubts(block, &columns, zone);
    let left = columns.iter().filter(|c| block.expires_column.as_deref() == Some(&c.name)).map(|column| {
        let ends = column.moment();
        format!("ceil(extract(epoch FROM ({ends}::timestamptz - clock_timestamp())) * 1000)::bigint AS {}", quote(LEFT))
    });
    let select: Vec<String> = shown.chain(extra).chain(left).collect();
    let from = format!("SELECT {} FROM {quoted}", select.join(", "));
    if mapping.kind == Kind::Definition {
        let order = keys.iter().map(|key| quote(key)).collect::<Vec<_>>().join(", ");
        return Ok(Plan::new(
            mapping,
            String::new(),
            as_json(&format!("{from} ORDER BY {order}")),
            Vec::new(),
            KeySource::Extra,
        )
        .with_doubts(doubts));
    }
    let filter: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{} = ${}", quote(key), i + 1)).collect();
    let one = as_json(&format!("{from} WHERE {}", filter.join(" AND ")));
    let described = describe(pool, &one).await?;
    // A table's rows tell their own keys, so a type with several spellings may be bound as text.
    let params = described.params.into_iter().map(|(param, _)| param.unwrap_or(Param::Text)).collect();
    let mut plan = Plan::new(mapping, one, String::new(), params, KeySource::Extra).with_doubts(doubts);
    let is_time = |name: &String| columns.iter().any(|c| c.name == *name && c.is_time());
    if block.expires_column.as_ref().is_some_and(|name| !is_time(name)) {
        return Err(StoreError::fault("expires_column", "is no timestamp"));
    }
    if block.writes_table() || block.delete == DeleteMode::Row || block.expires_column.is_some() {
        let surety = zone.map_or(Surety::Told, |zone| zone.surety);
        plan.target = Some(target(pool, mapping, (quoted, select.join(", ")), &columns, surety).await?);
    }
    Ok(plan)
}

/// Where writes go; what they find by must be unique.
async fn target(
    pool: &PgPool,
    mapping: &Mapping,
    (table, shown): (String, String),
    columns: &[TableColumn],
    surety: Surety,
) -> Result<Target, StoreError> {
    let block = &mapping.config;
    let keys = mapping.columns(&block.key_columns);
    let unique = unique_columns(block, &keys);
    let found: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = $1::regclass AND i.indisunique AND i.indpred IS NULL \
         AND i.indexprs IS NULL AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a \
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) \
         = (SELECT array_agg(c ORDER BY c) FROM unnest($2::text[]) AS c))",
    )
    .bind(&table)
    .bind(&unique)
    .fetch_one(pool)
    .await?;
    if !found && block.writes_table() {
        return Err(StoreError::fault("write", needs_unique(&unique)));
    }
    if block.defers() {
        let ask = "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('hearthside.journals') \
            AND attname = 'successor')";
        let is_migrated: bool = sqlx::query_scalar(ask).fetch_one(pool).await?;
        let key = if block.expires_column.is_some() { "expires_column" } else { "deferred" };
        if !is_migrated {
            let missing =
                "needs `hearthside migrate`: the table hearthside.journals, or its column successor, is missing";
            return Err(StoreError::fault(key, missing));
        }
        if let Some(missing) = missing_rights(pool).await? {
            return Err(StoreError::fault(key, missing));
        }
    }
    let key_cast = |key: &String| columns.iter().find(|c| c.name == *key).map(|c| c.cast.clone()).unwrap_or_default();
    let key_casts = keys.iter().map(key_cast).collect();
    Target::of(mapping, (table, shown), key_casts, columns.iter().map(|c| c.target(block)), surety).checked(block)
}

/// What the role may not do and must, to note deferred writes.
async fn missing_rights(pool: &PgPool) -> Result<Option<String>, StoreError> {
    let ask = "SELECT string_agg(wanted || ' on ' || name, ', ') FROM (VALUES ('SELECT', 'hearthside.journals'), \
        ('INSERT', 'hearthside.journals'), ('UPDATE', 'hearthside.journals'), ('SELECT', 'hearthside.flushed'), \
        ('INSERT', 'hearthside.flushed')) AS needs (wanted, name) WHERE NOT has_table_privilege(name, wanted)";
    let missing: Option<String> = sqlx::query_scalar(ask).fetch_one(pool).await?;
    let text = "the role of store.url lacks rights, and what is deferred could never be saved; GRANT";
    Ok(missing.map(|missing| format!("{text} {missing}")))
}

fn expression(block: &MappingConfig, column: &TableColumn) -> String {
    let name = quote(&column.name);
    if column.is_time() && block.timestamps == Timestamps::Epoch {
        return format!("trim_scale(extract(epoch FROM {})::numeric) AS {name}", column.moment());
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
    let list = list_statements(pool, mapping).await?;
    let params = described.params.into_iter().map(|(param, _)| param.unwrap_or(Param::Text)).collect();
    let source = if named { KeySource::Named } else { KeySource::Bound };
    let sql = as_json(query);
    Ok(match mapping.kind {
        Kind::Definition => Plan::new(mapping, String::new(), sql, params, source),
        Kind::Cache => Plan::new(mapping, sql, String::new(), params, source).with_list(list),
    })
}

/// `push` takes the holes and an element, `remove` LREM's count too.
async fn list_statements(pool: &PgPool, mapping: &Mapping) -> Result<ListStatements, StoreError> {
    let block = &mapping.config;
    let holes = mapping.pattern.holes().count();
    let (mut faults, mut statements) = (Vec::new(), ListStatements::default());
    for (key, sql, most, statement) in [
        ("push", &block.push, holes + 1, &mut statements.push),
        ("remove", &block.remove, holes + 2, &mut statements.remove),
    ] {
        let Some(sql) = sql else { continue };
        match describe(pool, sql).await {
            Ok(described) => {
                let kinds: Vec<&str> = described.params.iter().map(|(_, kind)| kind.as_str()).collect();
                faults.extend(list_faults(key, &kinds, holes, most));
                *statement = Some(ListStatement { sql: sql.clone(), takes_count: kinds.len() == holes + 2 });
            }
            Err(StoreError::Refused(text)) => faults.push((key, text)),
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() { Ok(statements) } else { Err(StoreError::Faults(faults)) }
}

fn list_faults(key: &'static str, kinds: &[&str], holes: usize, most: usize) -> Option<ColumnFault> {
    let takes = kinds.len();
    if takes <= holes || takes > most {
        return Some((key, list_parameters(takes, holes)));
    }
    let wanted = [(holes, "TEXT", "the element"), (holes + 1, "INT8", "the count")];
    wanted.into_iter().filter(|(at, ..)| *at < takes).find(|(at, kind, _)| kinds[*at] != *kind).map(
        |(at, kind, what)| {
            let cast = if kind == "TEXT" { "text" } else { "bigint" };
            (key, format!("write {what} as ${}::{cast}", at + 1))
        },
    )
}
