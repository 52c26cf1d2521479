//! What a mapping asks of a table's or a query's columns, the same for both stores.

use super::StoreError;
use crate::config::{MappingConfig, Shape};
use crate::mapping::{Kind, Mapping};

/// A key of the block, and what is wrong with it.
pub(super) type ColumnFault = (&'static str, String);

/// An SQL identifier, quoted.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns that the block names, by the key that names them.
fn named(block: &MappingConfig) -> impl Iterator<Item = (&'static str, &String)> {
    let fields = block.fields.iter().map(|name| ("fields", name));
    let value = block.value.iter().map(|name| ("value", name));
    let expires = block.expires_column.iter().map(|name| ("expires_column", name));
    fields.chain(value).chain(block.overflow.iter().map(|name| ("overflow", name))).chain(expires)
}

/// Refuses a table that lacks a column the mapping names.
pub(super) fn check_table(
    block: &MappingConfig,
    table: &str,
    keys: &[String],
    columns: &[&str],
) -> Result<(), StoreError> {
    let wanted = keys.iter().map(|name| ("key", name)).chain(named(block));
    let missing = wanted.filter(|(_, name)| !columns.contains(&name.as_str()));
    let faults: Vec<ColumnFault> =
        missing.map(|(key, name)| (key, format!("table '{table}' has no column '{name}'"))).collect();
    if faults.is_empty() { Ok(()) } else { Err(StoreError::Faults(faults)) }
}

/// Refuses an overflow column of this type, and with this default, that would not hold JSON: one of text is believed if
/// its default is an object, since JSON was what it was made for.
pub(super) fn check_overflow(name: &str, kind: &str, default: Option<&str>) -> Result<(), StoreError> {
    let is_json = kind.to_ascii_lowercase().contains("json");
    let begins_as_json = default.is_some_and(|default| default.trim_start_matches(['\'', '(', ' ']).starts_with('{'));
    if is_json || begins_as_json {
        return Ok(());
    }
    let text = format!(
        "the column '{name}' ({}) holds no JSON; name a json or jsonb column, or one of text whose default is '{{}}'",
        kind.to_ascii_lowercase()
    );
    Err(StoreError::fault("overflow", text))
}

/// What does not fit in a query that selects these columns and takes so many parameters.
pub(super) fn query_faults(mapping: &Mapping, selected: &[&str], takes: usize) -> Vec<ColumnFault> {
    let missing = named(&mapping.config).filter(|(_, name)| !selected.contains(&name.as_str()));
    let mut faults: Vec<ColumnFault> =
        missing.map(|(key, name)| (key, format!("the query selects no column '{name}'"))).collect();
    let holes = mapping.pattern.holes().count();
    let binds = if mapping.kind == Kind::Cache { holes } else { 0 };
    if takes != binds {
        faults.push(("query", format!("takes {takes} parameters, the key has {binds} holes to bind")));
    }
    if mapping.kind == Kind::Definition && !selects_key(mapping, selected) {
        faults.push(must_select_key(mapping));
    }
    faults
}

/// The columns that tell one value from all others: the key's, and a set's member.
pub(super) fn unique_columns(block: &MappingConfig, keys: &[String]) -> Vec<String> {
    let member = block.value.iter().filter(|_| block.shape == Shape::Set);
    keys.iter().chain(member).cloned().collect()
}

/// The fault of a table in which a key's rows cannot be told apart.
pub(super) fn needs_unique(columns: &[String]) -> String {
    format!("\"through\" needs a unique index (or primary key) on exactly: {}", columns.join(", "))
}

/// The fault of a list's statement with a wrong number of parameters.
pub(super) fn list_parameters(takes: usize, holes: usize) -> String {
    format!(
        "takes {takes} parameters: the key's {holes} holes and the element are wanted, and LREM's count if it likes"
    )
}

/// True when every hole is a column too, so that each row tells its own key.
pub(super) fn selects_key(mapping: &Mapping, selected: &[&str]) -> bool {
    mapping.pattern.holes().all(|(hole, _)| selected.contains(&hole))
}

/// The fault of a query whose rows must tell their own key.
pub(super) fn must_select_key(mapping: &Mapping) -> ColumnFault {
    let holes: Vec<_> = mapping.pattern.holes().map(|(name, _)| name).collect();
    ("query", format!("must select the key's holes as columns: {}", holes.join(", ")))
}

/// The name under which the milliseconds that a row has to live are selected.
pub(super) const LEFT: &str = "hearthside:left";

/// True when a table's column is part of the record.
pub(super) fn shows(block: &MappingConfig, keys: &[String], column: &str) -> bool {
    if block.expires_column.as_deref() == Some(column) {
        return false;
    }
    if block.overflow.as_deref() == Some(column) || block.value.as_deref() == Some(column) {
        return true;
    }
    if block.value.is_some() {
        return false;
    }
    if block.fields.is_empty() { !keys.iter().any(|k| k == column) } else { block.fields.iter().any(|f| f == column) }
}
