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
    let rows = rows(mapping, &text).map_err(refuse)?;
    let mut block = mapping.config.clone();
    if matches!(block.shape, Shape::String | Shape::Set) && block.value.is_none() {
        block.value = Some(VALUE.to_owned());
    }
    let mapping = Mapping { config: block, ..mapping.clone() };
    let plan = Plan::new(&mapping, String::new(), String::new(), Vec::new(), KeySource::Extra);
    let mut gather = plan.gather(&mapping);
    for row in rows {
        gather.add(row).map_err(|error| refuse(error.to_string()))?;
    }
    gather.finish()
}

/// The column that an entry which is no object becomes.
const VALUE: &str = "value";

fn rows(mapping: &Mapping, text: &str) -> Result<Vec<Row>, String> {
    let holes: Vec<String> = mapping.columns(&mapping.config.key_columns);
    if text.trim_start().starts_with('[') {
        let entries: Vec<Members> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return Ok(entries.into_iter().map(|Members(row)| keyed_by_members(row, &holes)).collect());
    }
    if holes.len() != 1 {
        return Err("an object names its entries by one hole; use an array of objects for more".into());
    }
    let mut rows = Vec::new();
    for (id, entry) in entries(text)? {
        for mut row in entry_rows(&entry)? {
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

/// An object is one row, an array one row per element, anything else a row with the one column [`VALUE`].
fn entry_rows(json: &str) -> Result<Vec<Row>, String> {
    match json.as_bytes().first() {
        Some(b'[') => {
            let elements: Vec<Box<RawValue>> = serde_json::from_str(json).map_err(|error| error.to_string())?;
            elements.iter().map(|element| one_row(element.get())).collect()
        }
        _ => one_row(json).map(|row| vec![row]),
    }
}

fn one_row(json: &str) -> Result<Row, String> {
    if json.starts_with('{') {
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
