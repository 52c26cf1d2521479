//! The keys of a cached mapping, in pages by key (keyset paging): each once, however many there are. Knows no values.

use super::bulkhead::Work;
use super::catalog::relation::{Relation, quote};
use super::catalog::requirements::shows;
use super::dialect::{Dialect, moment_of};
use super::{Engine, Plan, Store, StoreError};
use crate::config::{MappingConfig, Shape};
use crate::mapping::Mapping;

/// Where a mapping's keys are listed: its table, or the first table it watches that says its keys.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    dialect: Dialect,
    table: String,
    /// The key's columns, quoted.
    pub(super) keys: Vec<String>,
    /// Their types.
    pub(super) casts: Vec<String>,
    /// What a row must be to be a key; begins with ` AND ` where there is something.
    conditions: String,
    /// 1 where every row of a key has ended, as an expression.
    has_ended: String,
}

/// The name under which it is selected whether a key has ended.
const ENDED: &str = "\"hearthside:ended\"";

/// A key of a page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The texts of its columns.
    pub texts: Vec<String>,
    /// Its row says that it has ended.
    pub has_ended: bool,
}

/// The table and columns that say a mapping's keys.
pub(super) fn source(mapping: &Mapping) -> Option<(String, Vec<String>)> {
    let block = &mapping.config;
    match &block.table {
        Some(table) => Some((table.clone(), mapping.columns(&block.key_columns))),
        None => block.watch.iter().find(|w| !w.whole).map(|w| (w.table.clone(), mapping.columns(&w.key))),
    }
}

/// A row without any value is no key.
fn has_value(dialect: Dialect, block: &MappingConfig, shown: &[&String]) -> String {
    match (block.table.is_some(), block.shape) {
        (true, Shape::Hash | Shape::String | Shape::Set) => any_value(dialect, block, shown),
        _ => String::new(),
    }
}

/// What a row with a value is; nothing where no column is shown.
fn any_value(dialect: Dialect, block: &MappingConfig, shown: &[&String]) -> String {
    let is_set = |name: &&String| match block.overflow.as_deref() == Some(name) {
        true => dialect.has_members(&quote(name)),
        false => format!("{} IS NOT NULL", quote(name)),
    };
    let any: Vec<String> = shown.iter().map(is_set).collect();
    if any.is_empty() { String::new() } else { format!(" AND ({})", any.join(" OR ")) }
}

impl Listing {
    /// The listing of a mapping whose keys this table says; `None` where it lacks one of their columns.
    pub(super) fn of(dialect: Dialect, mapping: &Mapping, table: &Relation) -> Option<Self> {
        let block = &mapping.config;
        let (_, keys) = source(mapping)?;
        let casts =
            keys.iter().map(|key| table.column(key).map(|column| column.cast.clone())).collect::<Option<_>>()?;
        let names = table.columns.iter().map(|column| &column.name);
        let shown: Vec<&String> = names.filter(|name| shows(block, &keys, name)).collect();
        if mapping.pattern.is_one_key() {
            return Some(Self::of_one(
                dialect,
                mapping,
                &table.name,
                &table.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>(),
            ));
        }
        let conditions = has_value(dialect, block, &shown);
        let ends = block.expires_column.as_deref().and_then(|name| table.column(name));
        let has_ended = ends.map_or_else(
            || "0".to_owned(),
            |column| {
                let is_alive = dialect.is_alive(&column.quoted(), &moment_of(column));
                format!("min(CASE WHEN {is_alive} THEN 0 ELSE 1 END)")
            },
        );
        let keys = keys.iter().map(|key| quote(key)).collect();
        Some(Self { dialect, table: table.name.clone(), keys, casts, conditions, has_ended })
    }

    /// The listing of a mapping whose pattern is one key, which is there if a row of `source` shows something.
    pub(super) fn of_one(dialect: Dialect, mapping: &Mapping, source: &str, columns: &[String]) -> Self {
        let block = &mapping.config;
        let shown: Vec<&String> = columns.iter().filter(|name| shows(block, &[], name)).collect();
        let any =
            if block.shape == Shape::List && block.value.is_none() { "" } else { &any_value(dialect, block, &shown) };
        let table = format!("{source} AS hearthside_row");
        let (keys, casts, has_ended) = (Vec::new(), Vec::new(), String::new());
        Self { dialect, table, keys, casts, conditions: any.to_owned(), has_ended }
    }

    /// One page of at most `limit` keys, as the texts of their columns and whether they have ended: the first, or the
    /// one behind the key whose texts are the parameters.
    pub(super) fn sql(&self, is_first: bool, limit: usize) -> String {
        let Self { dialect, table, keys, casts, conditions, has_ended } = self;
        if keys.is_empty() {
            return format!("SELECT 1 = 0 FROM (SELECT 1 AS one FROM {table} WHERE 1 = 1{conditions} LIMIT 1) AS page");
        }
        let list = keys.join(", ");
        let texts: Vec<String> = keys.iter().map(|key| dialect.text(key)).collect();
        let set: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        let last: Vec<String> = casts.iter().enumerate().map(|(i, cast)| dialect.key(i + 1, cast)).collect();
        let after = if is_first { String::new() } else { format!(" AND ({list}) > ({})", last.join(", ")) };
        // With the table's name: a text of the same name would be the order otherwise.
        let order: Vec<String> = keys.iter().map(|key| format!("page.{key}")).collect();
        format!(
            "SELECT {}, page.{ENDED} = 1 FROM (SELECT {list}, {has_ended} AS {ENDED} FROM {table} \
             WHERE {}{conditions}{after} GROUP BY {list} ORDER BY {list} LIMIT {limit}) AS page ORDER BY {}",
            texts.join(", "),
            set.join(" AND "),
            order.join(", "),
        )
    }
}

impl Store {
    /// The keys of the next rows, `limit` at most, after the row with these texts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, plan: &Plan, after: &[String], limit: usize) -> Result<Vec<Listed>, StoreError> {
        let Some(listing) = &plan.listing else { return Ok(Vec::new()) };
        let listing = async {
            match &self.engine {
                Engine::Postgres(store) => store.page(listing, after, limit).await,
                Engine::Sqlite(store) => store.page(listing, after, limit).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Listing, StoreError::Unavailable, listing).await
    }
}
