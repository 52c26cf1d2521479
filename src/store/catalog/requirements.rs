//! What a mapping asks of a table's or a query's columns, and the faults of those that do not give it. Knows no engine.

use super::relation::{Column, Filled, Relation, Untold};
use crate::config::{MappingConfig, Shape};
use crate::keys::PlaceholderKind;
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;

/// A key of the block, and what is wrong with it.
pub(in crate::store) type ColumnFault = (&'static str, String);

/// The columns that the block names, by the key that names them.
fn named(block: &MappingConfig) -> impl Iterator<Item = (&'static str, &String)> {
    let fields = block.fields.iter().map(|name| ("fields", name));
    let value = block.value.iter().map(|name| ("value", name));
    let expires = block.expires_column.iter().map(|name| ("expires_column", name));
    fields.chain(value).chain(block.overflow.iter().map(|name| ("overflow", name))).chain(expires)
}

/// Refuses a table that lacks a column the mapping names; `name` is the table's in the mapping's block.
pub(in crate::store) fn check_table(mapping: &Mapping, name: &str, table: &Relation) -> Result<(), StoreError> {
    let block = &mapping.config;
    let keys = mapping.columns(&block.key_columns);
    let wanted = keys.iter().map(|column| ("key", column)).chain(named(block));
    let missing = wanted.filter(|(_, column)| table.column(column).is_none());
    let text = |column: &str| format!("table '{name}' has no column '{column}'{}", meant(column, table));
    let faults: Vec<ColumnFault> = missing.map(|(key, column)| (key, text(column))).collect();
    if faults.is_empty() { Ok(()) } else { Err(StoreError::Faults(faults)) }
}

/// What to write instead of a column's name that the table does not have, if that is plain.
fn meant(column: &str, table: &Relation) -> String {
    let bare = column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(|bare| bare.replace("\"\"", "\""));
    if let Some(bare) = bare.filter(|bare| table.column(bare).is_some()) {
        return format!("; names of columns are written without the quotes of SQL: {bare}");
    }
    let alike = table.columns.iter().find(|other| other.name.eq_ignore_ascii_case(column.trim_matches('"')));
    alike.map(|other| format!("; did you mean '{}'?", other.name)).unwrap_or_default()
}

/// Why a mapping is not over what is no table, and what to write instead; `None` of a table.
pub(in crate::store) fn untold_fault(name: &str, relation: &Relation) -> Option<String> {
    let (what, instead) = match relation.untold? {
        Untold::View => ("a view", "write a query over it, and name the tables that it shows in watch"),
        Untold::Materialized => ("a materialized view", "write a query over it, and a ttl for what a REFRESH changes"),
        Untold::Foreign => ("a foreign table", "write a query over it, and a ttl for what changes elsewhere"),
    };
    Some(format!("'{name}' is {what}, and nothing says what changes in it: {instead}"))
}

/// The types whose values are always written with a colon.
const WITH_COLON: [&str; 6] = ["time", "timetz", "timestamp", "timestamptz", "macaddr", "macaddr8"];

/// The types none of whose values is written as a whole number.
const NEVER_WHOLE: [&str; 8] = ["uuid", "date", "bool", "bytea", "inet", "cidr", "interval", "int4range"];

/// The types, in whole or in part of their names, whose values are texts of any kind.
const TEXTS: [&str; 6] = ["text", "char", "name", "clob", "string", "unknown"];

/// Why what is called `what`, of type `kind_of`, can hold no value of a placeholder of this kind; none if it can, or
/// may.
pub(in crate::store) fn unfit_kind(
    (placeholder, kind): (&str, PlaceholderKind),
    what: &str,
    kind_of: &str,
) -> Option<String> {
    let kind_of = kind_of.to_ascii_lowercase();
    // SQLite has types by name only, and a column without one holds anything.
    let is_text = kind_of.is_empty() || TEXTS.iter().any(|text| kind_of.contains(text));
    let (takes, fits) = match kind {
        PlaceholderKind::Text | PlaceholderKind::Path => return None,
        PlaceholderKind::Int => ("whole numbers", !NEVER_WHOLE.contains(&&*kind_of)),
        PlaceholderKind::Uuid => ("UUIDs", is_text || kind_of == "uuid"),
        PlaceholderKind::Date => ("dates", is_text || kind_of == "date"),
    };
    let written = kind.written();
    let fitting = match &*kind_of {
        "uuid" => ":uuid",
        "date" => ":date",
        other if other.contains("int") => ":int",
        _ => "",
    };
    let text = || {
        format!(
            "{{{placeholder}{written}}} takes {takes} only, and {what} ({kind_of}) holds none: write \
             {{{placeholder}{fitting}}}"
        )
    };
    (!fits).then(text)
}

/// Refuses columns that no key could name, by how their types write values.
pub(in crate::store) fn check_keys(mapping: &Mapping, table: &Relation) -> Result<(), StoreError> {
    let columns = mapping.columns(&mapping.config.key_columns);
    let fault = |((placeholder, kind), name): ((&str, PlaceholderKind), &String)| {
        let column = table.column(name)?;
        let written = column.kind();
        if WITH_COLON.contains(&written) && kind != PlaceholderKind::Path {
            return Some(format!(
                "the column '{name}' ({written}) writes its values with ':', which ends a placeholder: no key can \
                 name its rows; take another column, a query that writes them otherwise, or, at the end of the key, \
                 {{{placeholder}:path}}"
            ));
        }
        unfit_kind((placeholder, kind), &format!("the column '{name}'"), written)
    };
    let faults: Vec<ColumnFault> =
        mapping.pattern.placeholders().zip(&columns).filter_map(fault).map(|text| ("key", text)).collect();
    if faults.is_empty() { Ok(()) } else { Err(StoreError::Faults(faults)) }
}

/// Refuses writes to what the database computes.
pub(in crate::store) fn check_computed(mapping: &Mapping, table: &Relation) -> Result<(), StoreError> {
    let block = &mapping.config;
    let keys = mapping.columns(&block.key_columns);
    let keys = keys.iter().map(|name| ("key", name));
    let named = keys.chain(named(block).filter(|(key, _)| *key != "fields"));
    let is_computed = |name: &String| table.column(name).is_some_and(|column| column.filled == Filled::Computed);
    let computed = named.filter(|(_, name)| block.writes_table() && is_computed(name));
    let fault =
        |(key, name): (&'static str, &String)| (key, format!("the database computes '{name}': it takes no writes"));
    let faults: Vec<ColumnFault> = computed.map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(StoreError::Faults(faults)) }
}

/// Refuses an overflow column, with this default, that would not hold JSON: one of text is believed if its default is
/// an object, since JSON was what it was made for.
pub(in crate::store) fn check_overflow(column: &Column, default: Option<&str>) -> Result<(), StoreError> {
    let kind = column.kind().to_ascii_lowercase();
    let begins_as_json = default.is_some_and(|default| default.trim_start_matches(['\'', '(', ' ']).starts_with('{'));
    if kind.contains("json") || begins_as_json {
        return Ok(());
    }
    let text = format!(
        "the column '{}' ({kind}) holds no JSON; name a json or jsonb column, or one of text whose default is '{{}}'",
        column.name
    );
    Err(StoreError::fault("overflow", text))
}

/// What does not fit in a query that selects these columns and takes so many parameters.
pub(in crate::store) fn query_faults(mapping: &Mapping, selected: &[String], takes: usize) -> Vec<ColumnFault> {
    let missing = named(&mapping.config).filter(|(_, name)| !selected.contains(name));
    let mut faults: Vec<ColumnFault> =
        missing.map(|(key, name)| (key, format!("the query selects no column '{name}'"))).collect();
    let placeholders = mapping.pattern.placeholders().count();
    let binds = if mapping.kind == Kind::Cache { placeholders } else { 0 };
    if takes != binds {
        faults.push(("query", format!("takes {takes} parameters, the key has {binds} placeholders to bind")));
    }
    if mapping.kind == Kind::Definition && !selects_key(mapping, selected) {
        faults.push(must_select_key(mapping));
    }
    faults
}

/// The columns that identify one value: those of the key, and a set's member.
pub(in crate::store) fn unique_columns(block: &MappingConfig, keys: &[String]) -> Vec<String> {
    let member = block.value.iter().filter(|_| block.shape == Shape::Set);
    keys.iter().chain(member).cloned().collect()
}

/// The fault of a list's statement with a wrong number of parameters.
pub(in crate::store) fn list_parameters(takes: usize, placeholders: usize) -> String {
    format!(
        "takes {takes} parameters: the key has {placeholders} placeholders, which come first, then the element, and \
         LREM's count if it is wanted"
    )
}

/// True when every placeholder of the key is a column too, so that each row says its own key.
pub(in crate::store) fn selects_key(mapping: &Mapping, selected: &[String]) -> bool {
    mapping.pattern.placeholders().all(|(placeholder, _)| selected.iter().any(|column| column == placeholder))
}

/// The fault of a query whose rows must say their own key.
pub(in crate::store) fn must_select_key(mapping: &Mapping) -> ColumnFault {
    let placeholders: Vec<_> = mapping.pattern.placeholders().map(|(name, _)| name).collect();
    ("query", format!("must select the key's placeholders as columns: {}", placeholders.join(", ")))
}

/// True when a table's column is part of the record.
pub(in crate::store) fn shows(block: &MappingConfig, keys: &[String], column: &str) -> bool {
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
