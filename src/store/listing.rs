//! The keys of a cached mapping, in pages by key (keyset paging): each once, however many there are.

use super::columns::quote;
use super::{Engine, Plan, Store, StoreError};
use crate::config::{MappingConfig, Shape};
use crate::mapping::Mapping;

/// Where a mapping's keys are listed: its table, or the first table it watches that tells its keys.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) table: String,
    /// The key's columns, quoted.
    pub(super) keys: Vec<String>,
    /// Their types, for Postgres.
    pub(super) casts: Vec<String>,
    /// What a row must be to be a key; begins with ` AND ` where there is something.
    pub(super) conditions: String,
}

/// The table and columns that tell a mapping's keys.
pub(super) fn source(mapping: &Mapping) -> Option<(String, Vec<String>)> {
    let block = &mapping.config;
    match &block.table {
        Some(table) => Some((table.clone(), mapping.columns(&block.key_columns))),
        None => block.watch.iter().find(|w| !w.whole).map(|w| (w.table.clone(), mapping.columns(&w.key))),
    }
}

/// A row without any value is no key.
pub(super) fn has_value(block: &MappingConfig, shown: &[String], empty_overflow: impl Fn(&str) -> String) -> String {
    let is_set = |name: &String| match block.overflow.as_deref() == Some(name) {
        true => empty_overflow(&quote(name)),
        false => format!("{} IS NOT NULL", quote(name)),
    };
    let any: Vec<String> = shown.iter().map(is_set).collect();
    match (block.table.is_some(), block.shape) {
        (true, Shape::Hash | Shape::String | Shape::Set) if !any.is_empty() => format!(" AND ({})", any.join(" OR ")),
        _ => String::new(),
    }
}

impl Listing {
    /// One page: the texts of the key's columns, after the row whose texts are `$1`, `$2` ... where `is_first` is false.
    pub(super) fn sql(
        &self,
        text: impl Fn(&str) -> String,
        bound: impl Fn(usize) -> String,
        (is_first, limit): (bool, usize),
    ) -> String {
        let Self { table, keys, conditions, .. } = self;
        let list = keys.join(", ");
        let texts: Vec<String> = keys.iter().map(|key| text(key)).collect();
        let set: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        let after = match is_first {
            true => String::new(),
            false => format!(" AND ({list}) > ({})", (0..keys.len()).map(bound).collect::<Vec<_>>().join(", ")),
        };
        format!(
            "SELECT {} FROM (SELECT DISTINCT {list} FROM {table} WHERE {}{conditions}{after} ORDER BY {list} LIMIT {limit}) AS page \
             ORDER BY {}",
            texts.join(", "),
            set.join(" AND "),
            // With the table's name: a text of the same name would be the order otherwise.
            keys.iter().map(|key| format!("page.{key}")).collect::<Vec<_>>().join(", "),
        )
    }
}

impl Store {
    /// The key texts of the next rows, `limit` at most, after the row with these.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, plan: &Plan, after: &[String], limit: usize) -> Result<Vec<Vec<String>>, StoreError> {
        let Some(listing) = &plan.listing else { return Ok(Vec::new()) };
        self.breaker.check()?;
        let page = match &self.engine {
            Engine::Postgres(store) => store.page(listing, after, limit).await,
            Engine::Sqlite(store) => store.page(listing, after, limit).await,
            Engine::Away(away) => Err(away.error()),
        };
        self.breaker.note(page.as_ref().err());
        page
    }
}
