//! Definitions from a JSON file: `{"id": {fields}}` for a pattern with one hole, or `[{fields with the holes}]`.

use std::path::Path;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::json::{Members, cell};
use super::plan::{KeySource, key_column};
use super::row::{Cell, Row};
use super::{Plan, StoreError};
use crate::config::Shape;
use crate::mapping::Mapping;
use crate::record::Record;

/// Reads and shapes every definition of a file mapping.
///
/// # Errors
/// [`StoreError::Refused`] with the file's line, or the entry, that is wrong.
pub fn load_file(mapping: &Mapping, path: &Path) -> Result<Vec<(Bytes, Record)>, StoreError> {
    let refuse = |error: String| StoreError::Refused(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let by_id = !text.trim_start().starts_with('[');
    let mut block = mapping.config.clone();
    // Under an id stands the value itself: a string, or an array of elements.
    let plain = by_id && block.shape != Shape::Hash && block.value.is_none();
    if plain {
        block.value = Some(VALUE.to_owned());
    }
    let mapping = Mapping { config: block, ..mapping.clone() };
    let rows = if by_id { rows_by_id(&mapping, &text, plain) } else { rows_by_members(&mapping, &text) };
    let rows = rows.map_err(refuse)?;
    let plan = Plan::new(&mapping, String::new(), String::new(), Vec::new(), KeySource::Extra);
    let mut gather = plan.gather(&mapping);
    for row in rows {
        gather.add(row).map_err(|error| refuse(error.to_string()))?;
    }
    gather.finish()
}

/// The column that an entry which is no row becomes.
const VALUE: &str = "value";

/// `[{"hole": ..., "field": ...}]`: the holes' members are the key.
fn rows_by_members(mapping: &Mapping, text: &str) -> Result<Vec<Row>, String> {
    let holes = mapping.columns(&mapping.config.key_columns);
    let entries: Vec<Members> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|Members(row)| keyed_by_members(row, &holes)).collect())
}

/// `{"id": entry}`.
fn rows_by_id(mapping: &Mapping, text: &str, plain: bool) -> Result<Vec<Row>, String> {
    if mapping.pattern.holes().count() != 1 {
        return Err("an object names its entries by one hole; use an array of objects for more".into());
    }
    let mut rows = Vec::new();
    for (id, entry) in entries(text)? {
        for mut row in entry_rows(&entry, plain)? {
            row.0.push((key_column(0), Cell::Text(id.clone())));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The members of the outer object, each still as text.
fn entries(text: &str) -> Result<Vec<(String, String)>, String> {
    let Members(outer) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(outer.0.into_iter().map(|(id, cell)| (id, cell_json(&cell))).collect())
}

fn cell_json(cell: &Cell) -> String {
    match cell {
        Cell::Json(json) => json.clone(),
        Cell::Null => "null".to_owned(),
        Cell::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
    }
}

/// An array is one row per element, anything else one row.
fn entry_rows(json: &str, plain: bool) -> Result<Vec<Row>, String> {
    if !json.starts_with('[') {
        return one_row(json, plain).map(|row| vec![row]);
    }
    let elements: Vec<Box<RawValue>> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    elements.iter().map(|element| one_row(element.get(), plain)).collect()
}

/// An object's members are columns; a plain value is the one column [`VALUE`].
fn one_row(json: &str, plain: bool) -> Result<Row, String> {
    if json.starts_with('{') && !plain {
        return serde_json::from_str(json).map(|Members(row)| row).map_err(|error| error.to_string());
    }
    Ok(Row(vec![(VALUE.to_owned(), cell(json))]))
}

fn keyed_by_members(mut row: Row, holes: &[String]) -> Row {
    for (i, hole) in holes.iter().enumerate() {
        let cell = row.take(hole).unwrap_or(Cell::Null);
        row.0.push((key_column(i), cell));
    }
    row
}
