//! How the rows of a plan's statements become records: whose row it is, and the fields, value or elements that it
//! shows. Knows no engine.

use std::collections::HashSet;

use bytes::Bytes;

use super::StoreError;
use super::dialect::LEFT;
use super::json::Members;
use super::plan::{KeySource, Plan, key_column};
use super::row::{Cell, Row};
use crate::config::Shape;
use crate::record::Record;

const SEVERAL_ROWS: &str = "several rows have this key, which holds one hash or string: the key's columns are not \
    unique, or the query lacks a LIMIT 1";

/// The milliseconds that these rows have left; `None`: they do not end.
fn left(rows: &[Row]) -> Option<i64> {
    rows.first()?.get(LEFT)?.text()?.parse().ok()
}

impl Plan {
    /// The texts of a row's own key; `None` where the row does not say, an empty list where one is NULL.
    fn own_key(&self, row: &mut Row) -> Option<Vec<String>> {
        let text = |cell: Option<Cell>| cell.and_then(|c| c.text().map(str::to_owned));
        let placeholders = self.mapping.pattern.placeholders();
        let found: Option<Vec<String>> = match self.key {
            KeySource::Bound => return None,
            KeySource::Extra => placeholders.enumerate().map(|(i, _)| text(row.take(&key_column(i)))).collect(),
            KeySource::Named => placeholders.map(|(placeholder, _)| text(row.get(placeholder).cloned())).collect(),
        };
        Some(found.unwrap_or_default())
    }

    /// The key whose placeholders hold these texts, if it is one of the mapping's.
    fn render(&self, own: &[String]) -> Option<Vec<u8>> {
        self.mapping.pattern.render(own).filter(|_| own.len() == self.mapping.pattern.placeholders().count())
    }

    /// The record of `key` by the rows that were found for it; those that say another key are left out (hazard 29).
    /// What has ended by its row is told too: the caller may know of another end.
    pub(super) fn record(&self, key: &[u8], rows: Vec<Row>) -> Result<Option<Record>, StoreError> {
        self.shape(&self.rows_of(key, rows)?)
    }

    /// The same of rows that a write found alive or left behind: one that has ended since then is told with a
    /// millisecond to live, for the write's reply is about what it found and left.
    pub(super) fn written(&self, key: &[u8], rows: Vec<Row>) -> Result<Option<Record>, StoreError> {
        let record = self.record(key, rows)?;
        Ok(record.map(|record| {
            let left = record.left.map(|left| left.max(1));
            record.living(left)
        }))
    }

    /// Those of these rows that are the key's.
    fn rows_of(&self, key: &[u8], rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
        let mut same = Vec::with_capacity(rows.len());
        for mut row in rows {
            match self.own_key(&mut row) {
                Some(own) if self.render(&own).as_deref() != Some(key) => {}
                _ => same.push(row),
            }
        }
        let is_one = matches!(self.mapping.config.shape, Shape::Hash | Shape::String);
        if is_one && same.len() > 1 {
            return Err(StoreError::Refused(SEVERAL_ROWS.into()));
        }
        Ok(same)
    }

    /// The key that a row says, and the row without it; `None` where it is no usable key.
    pub(super) fn own_row(&self, mut row: Row) -> Option<(Box<[u8]>, Row)> {
        let own = self.own_key(&mut row).unwrap_or_default();
        Some((self.render(&own)?.into(), row))
    }

    /// The key and record of such a row.
    pub(super) fn keyed(&self, row: Row) -> Result<Option<(Bytes, Option<Record>)>, StoreError> {
        match self.own_row(row) {
            Some((key, row)) => Ok(Some((Bytes::from(key), self.shape(&[row])?))),
            None => Ok(None),
        }
    }

    /// A record of these rows, which share one key; `None` when Redis would not keep such a value.
    pub(super) fn shape(&self, rows: &[Row]) -> Result<Option<Record>, StoreError> {
        let Some(first) = rows.first() else { return Ok(None) };
        let record = match self.mapping.config.shape {
            Shape::Hash => Record::hash(&self.fields(first)?),
            Shape::String => match self.value(first)? {
                Some(text) => Record::string(text.as_bytes()),
                None => return Ok(None),
            },
            Shape::List => Record::list(&self.elements(rows)?),
            Shape::Set => Record::set(&self.elements(rows)?),
        };
        let record = record.map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok((!record.is_empty()).then(|| record.living(left(rows))))
    }

    fn fields(&self, row: &Row) -> Result<Vec<(String, String)>, StoreError> {
        let mut row = row.clone();
        row.take(LEFT);
        let overflow = self.mapping.config.overflow.as_ref().and_then(|column| row.take(column));
        let mut fields: Vec<(String, String)> = Vec::with_capacity(row.0.len());
        let mut add = |name: &str, cell: &Cell| {
            if let Some(text) = cell.text().filter(|_| fields.iter().all(|(known, _)| known != name)) {
                fields.push((name.to_owned(), text.to_owned()));
            }
        };
        if self.mapping.config.fields.is_empty() {
            row.0.iter().for_each(|(name, cell)| add(name, cell));
        } else {
            self.mapping.config.fields.iter().for_each(|name| add(name, row.get(name).unwrap_or(&Cell::Null)));
        }
        if let Some(text) = overflow.as_ref().and_then(Cell::text) {
            let Members(more) = serde_json::from_str(text)
                .map_err(|error| StoreError::Refused(format!("the overflow column holds no JSON object: {error}")))?;
            add_members(&mut fields, &self.column_names, &more);
        }
        Ok(fields)
    }

    fn value<'r>(&self, row: &'r Row) -> Result<Option<&'r str>, StoreError> {
        let column = self.mapping.config.value.as_deref().unwrap_or_default();
        let cell = row.get(column).ok_or_else(|| StoreError::Refused(format!("no column '{column}' in the rows")))?;
        Ok(cell.text())
    }

    fn elements(&self, rows: &[Row]) -> Result<Vec<String>, StoreError> {
        if self.mapping.config.value.is_some() {
            let texts = rows.iter().map(|row| Ok(self.value(row)?.map(str::to_owned)));
            return texts.filter_map(Result::transpose).collect();
        }
        Ok(rows.iter().map(Row::to_json).collect())
    }
}

/// Adds the members of the overflow column, of which there may be very many, behind the columns. One that is named as
/// a column of the table is none of the fields, even where the column is NULL or not shown.
fn add_members(fields: &mut Vec<(String, String)>, columns: &[String], members: &Row) {
    let mut seen = HashSet::with_capacity(members.0.len());
    for (name, cell) in &members.0 {
        let mut is_new = |name| !columns.contains(name) && seen.insert(name);
        if let Some(text) = cell.text().filter(|_| is_new(name)) {
            fields.push((name.clone(), text.to_owned()));
        }
    }
}
