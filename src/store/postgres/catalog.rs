//! Reads the catalog of Postgres: tables, their columns and indexes, what a statement takes and selects. Of a mapping
//! it knows only which columns hold timestamps.

use sqlx::postgres::{PgStatement, PgTypeInfo};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor, PgPool, SqlSafeStr, Statement, TypeInfo};
use tokio::sync::SemaphorePermit;

use super::params;
use super::zone::{self, Zone};
use crate::config::{MappingConfig, Timestamps};
use crate::store::StoreError;
use crate::store::catalog::described::{Described, Param, Parameter};
use crate::store::catalog::relation::{Base, Column, Filled, Holds, Relation, Untold};
use crate::store::catalog::requirements::{ColumnFault, shows};
use crate::store::catalog::unique::{UniqueIndex, Weakness};
use crate::store::{dropped, triggers};

/// The catalog of the database.
#[derive(Debug)]
pub(in crate::store) struct PostgresCatalog<'s> {
    pub(super) pool: PgPool,
    /// The zone that the settings say (`store.timezone`); empty if none.
    pub(super) timezone: &'s str,
    /// Held while a plan is made.
    pub(super) _turn: SemaphorePermit<'s>,
}

impl PostgresCatalog<'_> {
    pub(in crate::store) async fn relation(&self, name: &str) -> Result<Option<Relation>, StoreError> {
        let known = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind::text, \
            c.relrowsecurity \
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1) \
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let known = sqlx::query_as(known).bind(name).fetch_optional(&self.pool).await;
        let known: Option<(String, String, bool)> = match known {
            // It is written as no name can be.
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("42")) => None,
            known => known?,
        };
        let Some((quoted, kind, has_policies)) = known else { return Ok(None) };
        let columns: Vec<CatalogColumn> = sqlx::query_as(COLUMNS).bind(name).fetch_all(&self.pool).await?;
        let untold = match kind.as_str() {
            "v" => Some(Untold::View),
            "m" => Some(Untold::Materialized),
            "f" => Some(Untold::Foreign),
            _ => None,
        };
        let columns = columns.into_iter().map(CatalogColumn::read).collect();
        Ok(Some(Relation { untold, has_policies, ..Relation::new(quoted, columns) }))
    }

    /// A table or view whose name differs from this one in its case only, as it has to be written.
    pub(in crate::store) async fn alike(&self, name: &str) -> Result<Option<String>, StoreError> {
        let ask = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND lower(relname) = lower(replace(substring($1 FROM '[^.]*$'), '\"', '')) \
            ORDER BY pg_table_is_visible(oid) DESC, oid LIMIT 1";
        Ok(sqlx::query_scalar(ask).bind(name).fetch_optional(&self.pool).await?)
    }

    /// Why the table of this name cannot be seen, if its schema may not be used.
    pub(in crate::store) async fn hidden(&self, name: &str) -> Result<Option<String>, StoreError> {
        triggers::lacking_on(&self.pool, name, &[]).await
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
        let zone = zone::of(&self.pool, self.timezone, &relation.name).await?;
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
        let found: Option<Option<String>> = found.fetch_optional(&self.pool).await?;
        Ok(found.flatten())
    }

    pub(in crate::store) async fn unique_indexes(&self, table: &str) -> Result<Vec<UniqueIndex>, StoreError> {
        let found: Vec<FoundIndex> = sqlx::query_as(UNIQUE_INDEXES).bind(table).fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(FoundIndex::read).collect())
    }

    /// What is missing for the notes of deferred writes: their table, or what the role may not do and must, a line for
    /// each table.
    pub(in crate::store) async fn journal_faults(&self) -> Result<Vec<String>, StoreError> {
        match self.lacks_for_notes().await {
            // The role may not look into the schema.
            Err(StoreError::Refused(text)) => Ok(vec![format!("the notes of deferred writes cannot be had: {text}")]),
            other => other,
        }
    }

    async fn lacks_for_notes(&self) -> Result<Vec<String>, StoreError> {
        let missing = dropped::of_notes(&self.pool).await?;
        if !missing.is_empty() {
            return Ok(vec![format!("needs `hearthside migrate`, which makes {}", missing.join(", "))]);
        }
        triggers::lacking_for_notes(&self.pool).await
    }

    /// Asks whether a statement takes its parameters bound like that.
    pub(in crate::store) async fn takes(&self, sql: &str, bound: &[Param]) -> Result<(), StoreError> {
        let types: Vec<_> = bound.iter().map(params::info).collect();
        self.prepare(sql, &types).await.map(drop)
    }

    pub(in crate::store) async fn describe(&self, sql: &str) -> Result<Described, StoreError> {
        let statement = self.prepare(sql, &[]).await?;
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

    /// Has the server read a statement as if for the first time. What a connection has prepared before is another
    /// schema's reading of the same text, or that of other parameter types, and would be answered without asking.
    async fn prepare(&self, sql: &str, types: &[PgTypeInfo]) -> Result<PgStatement, StoreError> {
        let prepared = async {
            let mut connection = self.pool.acquire().await?;
            connection.clear_cached_statements().await?;
            (&mut *connection).prepare_with(AssertSqlSafe(sql.to_owned()).into_sql_str(), types).await
        };
        prepared.await.map_err(|error| match is_about_the_text(&error) {
            true => error.into(),
            false => passing(error.into()),
        })
    }
}

/// True of an error that says of a statement's text that it cannot be prepared: it is not written in SQL, names what is
/// not there or may not be used, or has types that do not go together.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn is_about_the_text(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["0A", "22", "3F", "42", "54"].iter().any(|class| code.starts_with(class)))
}

/// What is no fault of the statement, and may be over the next time: what the server refuses otherwise is so.
fn passing(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(text) | StoreError::Schema(text) | StoreError::Data(text) => StoreError::Overloaded(text),
        other => other,
    }
}

/// The type whose timestamps have no zone.
const UNZONED: &str = "timestamp";

/// The columns of a table. A domain may be made of another one: `base` follows them to the type below.
const COLUMNS: &str = "WITH RECURSIVE base (attnum, oid, modifier) AS (SELECT attnum, atttypid, atttypmod \
    FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped \
    UNION ALL SELECT base.attnum, d.typbasetype, d.typtypmod FROM base \
    JOIN pg_type d ON d.oid = base.oid AND d.typtype = 'd') \
    SELECT a.attname::text AS name, quote_ident(n.nspname) || '.' || quote_ident(t.typname) AS declared, \
    format_type(base.oid, base.modifier) AS base, b.typname::text AS kind, \
    CASE WHEN t.typtype = 'd' THEN format_type(base.oid, NULL) END AS under_domain, \
    b.typtype = 'c' OR b.typcategory = 'A' AS has_parts, EXISTS (SELECT FROM pg_cast AS k \
    WHERE k.castsource IN (b.oid, b.typelem) AND k.castsource >= 16384 AND k.casttarget = 'pg_catalog.json'::regtype \
    AND k.castfunc <> 0) AS has_own_json, a.attnotnull OR t.typnotnull AS is_required, \
    a.attidentity = 'a' AS is_identity, a.attgenerated <> '' AS is_computed, \
    b.typtype = 'e' AS is_enum \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
    JOIN base USING (attnum) JOIN pg_type b ON b.oid = base.oid AND b.typtype <> 'd' \
    WHERE a.attrelid = to_regclass($1) ORDER BY a.attnum";

/// The unique indexes of a table. What an expression is made of is known by what the index depends on.
const UNIQUE_INDEXES: &str = "SELECT i.indexrelid::regclass::text AS name, ARRAY(SELECT a.attname::text \
    FROM pg_attribute AS a WHERE a.attrelid = i.indrelid AND (a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
    OR i.indexprs IS NOT NULL AND i.indpred IS NULL AND EXISTS (SELECT 1 FROM pg_depend AS d \
    WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass \
    AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))) AS columns, i.indpred IS NOT NULL AS is_partial, \
    NOT i.indimmediate AS is_deferrable, NOT i.indisvalid AS is_invalid, i.indexprs IS NOT NULL AS has_expressions, \
    EXISTS (SELECT 1 FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhparent WHERE c.oid = i.indrelid \
    AND c.relkind = 'r') AS has_children \
    FROM pg_index AS i WHERE i.indrelid = $1::regclass AND i.indisunique ORDER BY NOT i.indisprimary, 1";

/// A row of [`UNIQUE_INDEXES`].
#[derive(sqlx::FromRow)]
struct FoundIndex {
    name: String,
    columns: Vec<String>,
    is_partial: bool,
    is_deferrable: bool,
    is_invalid: bool,
    has_expressions: bool,
    has_children: bool,
}

impl FoundIndex {
    fn read(self) -> UniqueIndex {
        let weakness = match () {
            () if self.is_partial => Some(Weakness::Partial),
            () if self.is_deferrable => Some(Weakness::Deferrable),
            () if self.is_invalid => Some(Weakness::Invalid),
            () if self.has_expressions => Some(Weakness::Expressions),
            () => None,
        };
        UniqueIndex { name: self.name, columns: self.columns, weakness, has_children: self.has_children }
    }
}

/// A row of [`COLUMNS`].
#[derive(sqlx::FromRow)]
struct CatalogColumn {
    name: String,
    declared: String,
    base: String,
    kind: String,
    under_domain: Option<String>,
    has_parts: bool,
    has_own_json: bool,
    is_required: bool,
    is_identity: bool,
    is_computed: bool,
    is_enum: bool,
}

impl CatalogColumn {
    fn read(self) -> Column {
        let holds = match self.kind.as_str() {
            "int2" | "int4" | "int8" => Holds::Integers,
            "numeric" | "float4" | "float8" => Holds::Numbers,
            "bool" => Holds::Booleans,
            "json" | "jsonb" => Holds::Json,
            UNZONED | "timestamptz" => Holds::Times,
            _ if self.has_own_json => Holds::Foreign,
            _ if self.has_parts => Holds::Structures,
            _ => Holds::Texts,
        };
        let filled = match () {
            () if self.is_computed => Filled::Computed,
            () if self.is_identity => Filled::AsIdentity,
            () => Filled::ByWriter,
        };
        let base = Base { kind: self.kind, cast: self.base, under_domain: self.under_domain };
        let (is_required, is_enum) = (self.is_required, self.is_enum);
        Column { base, filled, is_required, is_enum, ..Column::new(self.name, self.declared, holds) }
    }
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
