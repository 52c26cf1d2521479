//! Reads the catalog of Postgres: tables, their columns and indexes, what a statement takes and selects. Of a mapping
//! it knows only which columns hold timestamps.

use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor, PgPool, SqlSafeStr, Statement, TypeInfo};

use super::params;
use super::zone::{self, Zone};
use crate::config::{MappingConfig, Timestamps};
use crate::store::StoreError;
use crate::store::catalog::described::{Described, Parameter};
use crate::store::catalog::relation::{Column, Holds, Relation};
use crate::store::catalog::requirements::{ColumnFault, shows};

/// The catalog of the database.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct PostgresCatalog<'s> {
    pub(super) pool: &'s PgPool,
    /// The zone that the settings say (`store.timezone`); empty if none.
    pub(super) timezone: &'s str,
}

impl PostgresCatalog<'_> {
    pub(in crate::store) async fn relation(&self, name: &str) -> Result<Option<Relation>, StoreError> {
        let known = sqlx::query_scalar("SELECT to_regclass($1)::text").bind(name);
        let known: Option<String> = known.fetch_one(self.pool).await?;
        let Some(quoted) = known else { return Ok(None) };
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT a.attname::text, quote_ident(n.nspname) || '.' || quote_ident(t.typname) \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
             WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        )
        .bind(name)
        .fetch_all(self.pool)
        .await?;
        Ok(Some(Relation::new(quoted, columns.into_iter().map(column).collect())))
    }

    /// The same, whose columns without a time zone say which zone theirs is, if that matters to some of them: when a
    /// row ends, or seconds since 1970.
    pub(in crate::store) async fn zoned(
        &self,
        relation: Relation,
        block: &MappingConfig,
    ) -> Result<Relation, StoreError> {
        if !relation.columns.iter().any(|column| is_unzoned(column, block)) {
            return Ok(relation);
        }
        let zone = zone::of(self.pool, self.timezone, &relation.name).await?;
        if !zone.is_utc() {
            let text = "moments in columns without time zone are taken to be in this zone";
            tracing::info!(table = relation.name, zone = zone.name, "{text}");
        }
        let doubts = doubts(block, &relation.columns, &zone);
        let mut columns = relation.columns;
        for column in columns.iter_mut().filter(|column| column.kind() == UNZONED) {
            column.zone = Some(zone.name.clone());
        }
        Ok(Relation { columns, surety: zone.surety, doubts, ..relation })
    }

    pub(in crate::store) async fn default_of(&self, table: &str, column: &str) -> Result<Option<String>, StoreError> {
        let select = "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d \
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE a.attrelid = to_regclass($1) AND a.attname = $2";
        let found = sqlx::query_scalar(select).bind(table).bind(column);
        let found: Option<Option<String>> = found.fetch_optional(self.pool).await?;
        Ok(found.flatten())
    }

    pub(in crate::store) async fn is_unique(&self, table: &str, columns: &[String]) -> Result<bool, StoreError> {
        let ask = "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = $1::regclass AND i.indisunique \
             AND i.indpred IS NULL AND i.indexprs IS NULL \
             AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) \
             = (SELECT array_agg(c ORDER BY c) FROM unnest($2::text[]) AS c))";
        Ok(sqlx::query_scalar(ask).bind(table).bind(columns).fetch_one(self.pool).await?)
    }

    /// What is missing for the notes of deferred writes: their table, or what the role may not do and must.
    pub(in crate::store) async fn journal_fault(&self) -> Result<Option<String>, StoreError> {
        let ask = "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('hearthside.journals') \
            AND attname = 'successor')";
        let is_migrated: bool = sqlx::query_scalar(ask).fetch_one(self.pool).await?;
        if !is_migrated {
            let missing =
                "needs `hearthside migrate`: the table hearthside.journals, or its column successor, is missing";
            return Ok(Some(missing.to_owned()));
        }
        let ask = "SELECT string_agg(wanted || ' on ' || name, ', ') FROM (VALUES ('SELECT', 'hearthside.journals'), \
            ('INSERT', 'hearthside.journals'), ('UPDATE', 'hearthside.journals'), ('SELECT', 'hearthside.flushed'), \
            ('INSERT', 'hearthside.flushed')) AS needs (wanted, name) WHERE NOT has_table_privilege(name, wanted)";
        let missing: Option<String> = sqlx::query_scalar(ask).fetch_one(self.pool).await?;
        let text = "the role of store.url lacks rights, and what is deferred could never be saved; GRANT";
        Ok(missing.map(|missing| format!("{text} {missing}")))
    }

    pub(in crate::store) async fn describe(&self, sql: &str) -> Result<Described, StoreError> {
        let mut connection = self.pool.acquire().await?;
        // What it has prepared before may be what an earlier schema made of the same text.
        connection.clear_cached_statements().await?;
        let statement = (&mut *connection).prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
        let parameters = match statement.parameters() {
            Some(Either::Left(infos)) => infos
                .iter()
                .map(|info| Parameter { bound: params::param(info), kind: info.name().to_owned() })
                .collect(),
            _ => Vec::new(),
        };
        let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        Ok(Described { parameters, columns })
    }
}

/// The type whose timestamps have no zone.
const UNZONED: &str = "timestamp";

/// A column by its name and its type's.
fn column((name, cast): (String, String)) -> Column {
    let column = Column { name, cast, holds: Holds::Texts, zone: None };
    let holds = match column.kind() {
        "int2" | "int4" | "int8" => Holds::Integers,
        "numeric" | "float4" | "float8" => Holds::Numbers,
        "bool" => Holds::Booleans,
        "json" | "jsonb" => Holds::Json,
        UNZONED | "timestamptz" => Holds::Times,
        _ => Holds::Texts,
    };
    Column { holds, ..column }
}

/// True for timestamps without a zone that the mapping has to convert.
fn is_unzoned(column: &Column, block: &MappingConfig) -> bool {
    let is_end = block.expires_column.as_deref() == Some(&column.name);
    let is_shown = shows(block, &[], &column.name) && block.timestamps == Timestamps::Epoch;
    column.kind() == UNZONED && (is_end || is_shown)
}

/// What an operator should make certain of a zone that is doubted.
fn doubts(block: &MappingConfig, columns: &[Column], zone: &Zone) -> Vec<ColumnFault> {
    let Some(why) = &zone.doubt else { return Vec::new() };
    let doubt = |column: &Column| {
        let is_end = block.expires_column.as_deref() == Some(&column.name);
        let text = format!(
            "the column '{}' is a timestamp without time zone, and {why}: it is read as {}; make it a timestamptz, \
             or say its zone (store.timezone)",
            column.name, zone.name
        );
        (if is_end { "expires_column" } else { "timestamps" }, text)
    };
    columns.iter().filter(|column| is_unzoned(column, block)).map(doubt).collect()
}
