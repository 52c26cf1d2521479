//! Definitions from a JSON file: `{"id": {fields}}` for a pattern with one placeholder, or an array of objects with a
//! member for each placeholder. Knows no database.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::value::RawValue;

use super::gather::Gather;
use super::json::{Members, cell, each};
use super::plan::{KeySource, key_column};
use super::row::{Cell, Row};
use super::{Plan, StoreError};
use crate::config::Shape;
use crate::mapping::Mapping;
use crate::record::Table;

/// Reads and shapes every definition of a file mapping.
///
/// # Errors
/// [`StoreError::File`] with the file's line, or the entry, that is wrong.
pub fn load_file(mapping: &Mapping, path: &Path) -> Result<Table, StoreError> {
    let refuse = |error: String| StoreError::File(format!("{}: {error}", path.display()));
    let (file, by_id) = open(path).map_err(|error| refuse(error.to_string()))?;
    let mut block = mapping.config.clone();
    // Under an id stands the value itself: a string, or an array of elements.
    let plain = by_id && block.shape != Shape::Hash && block.value.is_none();
    if plain {
        block.value = Some(VALUE.to_owned());
    }
    let mapping = Mapping { config: block, ..mapping.clone() };
    let plan = Plan::new(&mapping, KeySource::Extra);
    let mut gather = Gather::new(&plan);
    // One row at a time: the rows of a large file are many times its size.
    let mut add = |row| gather.add(row).map_err(|error| error.to_string());
    let added =
        if by_id { rows_by_id(&mapping, file, plain, &mut add) } else { rows_by_members(&mapping, file, &mut add) };
    added.map_err(refuse)?;
    gather.finish()
}

/// The file from its value on, and whether that is an object.
fn open(path: &Path) -> std::io::Result<(impl Read, bool)> {
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    loop {
        let ahead = file.fill_buf()?;
        let first = ahead.iter().copied().find(|byte| !byte.is_ascii_whitespace());
        let spaces = ahead.len();
        if first.is_some() || spaces == 0 {
            return Ok((file, first != Some(b'[')));
        }
        file.consume(spaces);
    }
}

/// Takes a row.
type Add<'a> = &'a mut dyn FnMut(Row) -> Result<(), String>;

/// The column that an entry which is no row becomes.
const VALUE: &str = "value";

/// `[{"id": ..., "field": ...}]`: the members named as the key's placeholders are the key.
fn rows_by_members(mapping: &Mapping, file: impl Read, add: Add<'_>) -> Result<(), String> {
    let placeholders = mapping.columns(&mapping.config.key_columns);
    each(file, &mut |_, entry| add(keyed_by_members(object(entry.get())?, &placeholders)))
}

/// `{"id": entry}`.
fn rows_by_id(mapping: &Mapping, file: impl Read, plain: bool, add: Add<'_>) -> Result<(), String> {
    if mapping.pattern.placeholders().count() != 1 {
        return Err("an object names its entries by one placeholder; use an array of objects for more".into());
    }
    each(file, &mut |id, entry| {
        entry_rows(entry.get(), plain)?.into_iter().try_for_each(|mut row| {
            row.0.push((key_column(0), Cell::Text(id.clone())));
            add(row)
        })
    })
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
        return object(json);
    }
    Ok(Row(vec![(VALUE.to_owned(), cell(json))]))
}

fn object(json: &str) -> Result<Row, String> {
    serde_json::from_str(json).map(|Members(row)| row).map_err(|error| error.to_string())
}

fn keyed_by_members(mut row: Row, placeholders: &[String]) -> Row {
    for (i, placeholder) in placeholders.iter().enumerate() {
        let cell = row.take(placeholder).unwrap_or(Cell::Null);
        row.0.push((key_column(i), cell));
    }
    row
}
