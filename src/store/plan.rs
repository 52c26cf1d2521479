//! A mapping made ready for a store: its statements, and how its rows become records.

use bytes::Bytes;

use super::StoreError;
use super::columns::LEFT;
use super::json::Members;
use super::listing::Listing;
use super::row::{Cell, Row};
use super::target::{Target, text};
use crate::config::{MappingConfig, Shape};
use crate::keys::Pattern;
use crate::mapping::Mapping;
use crate::record::Record;

/// How a hole's text is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Param {
    /// An integer of so many bytes.
    Int(usize),
    /// Text as it is.
    Text,
    /// A UUID in its canonical spelling.
    Uuid,
}

/// Where a row's own key is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Extra columns [`key_column`], taken out of the row (a table).
    Extra,
    /// Columns named as the holes, which stay in the row (a query that selects them).
    Named,
    /// The row does not tell; every hole is bound by a type with one spelling (a query).
    Bound,
}

/// The statements of a list that takes writes.
#[derive(Clone, Debug, Default)]
pub(super) struct ListStatements {
    pub(super) push: Option<ListStatement>,
    pub(super) remove: Option<ListStatement>,
}

/// One of them: its parameters are the holes, the element, and perhaps LREM's count.
#[derive(Clone, Debug)]
pub(super) struct ListStatement {
    pub(super) sql: String,
    pub(super) takes_count: bool,
}

/// The statements of one mapping, and the form of its records.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Loads one key: `$1` ... are the holes in order. Empty for definitions.
    pub(super) one: String,
    /// Loads every definition. Empty for caches.
    pub(super) all: String,
    pub(super) params: Vec<Param>,
    pub(super) key: KeySource,
    /// Where writes go, of a mapping that takes them.
    pub(super) target: Option<Target>,
    /// Where its keys are listed, if they can be.
    pub(super) listing: Option<Listing>,
    /// How an element is pushed and taken out of a list, where the mapping says so.
    pub(super) list: ListStatements,
    /// What is not certain of its columns: a key of the block, and the doubt.
    doubts: Vec<(&'static str, String)>,
    holes: Vec<String>,
    shown: MappingConfig,
}

/// The name under which a table's key column `i` is selected.
pub(super) fn key_column(i: usize) -> String {
    format!("hearthside:key:{i}")
}

impl Plan {
    pub(super) fn new(mapping: &Mapping, one: String, all: String, params: Vec<Param>, key: KeySource) -> Self {
        let holes = mapping.pattern.holes().map(|(name, _)| name.to_owned()).collect();
        let list = ListStatements::default();
        Self {
            one,
            all,
            params,
            key,
            target: None,
            listing: None,
            list,
            doubts: Vec::new(),
            holes,
            shown: mapping.config.clone(),
        }
    }

    /// The same plan, whose keys are listed there.
    pub(super) fn with_listing(self, listing: Option<Listing>) -> Self {
        Self { listing, ..self }
    }

    /// The same plan, of which that is not certain.
    pub(super) fn with_doubts(self, doubts: Vec<(&'static str, String)>) -> Self {
        Self { doubts, ..self }
    }

    /// What an operator should make certain: the mapping is served all the same. A key of the block, and the doubt.
    #[must_use]
    pub fn doubts(&self) -> &[(&'static str, String)] {
        &self.doubts
    }

    /// The same plan, for a list that takes elements so.
    pub(super) fn with_list(self, list: ListStatements) -> Self {
        Self { list, ..self }
    }

    /// Refuses a value that its column would refuse, as far as that is known without asking.
    ///
    /// # Errors
    /// [`StoreError::Field`].
    pub fn check(&self, field: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some(target) = &self.target else { return Ok(()) };
        let field = text(field, "")?;
        target.place(field, &self.shown)?.check(field, text(value, field)?)
    }

    pub(super) fn is_hash(&self) -> bool {
        self.shown.shape == Shape::Hash
    }

    /// The texts of a row's own key; `None` where the row does not tell, an empty list where one is NULL.
    fn own_key(&self, row: &mut Row) -> Option<Vec<String>> {
        let text = |cell: Option<Cell>| cell.and_then(|c| c.text().map(str::to_owned));
        let found: Option<Vec<String>> = match self.key {
            KeySource::Bound => return None,
            KeySource::Extra => (0..self.holes.len()).map(|i| text(row.take(&key_column(i)))).collect(),
            KeySource::Named => self.holes.iter().map(|hole| text(row.get(hole).cloned())).collect(),
        };
        Some(found.unwrap_or_default())
    }

    /// The record of the key whose holes hold `values`.
    pub(super) fn record(
        &self,
        pattern: &Pattern,
        values: &[&[u8]],
        rows: Vec<Row>,
    ) -> Result<Option<Record>, StoreError> {
        let asked = pattern.render(values);
        let mut same = Vec::with_capacity(rows.len());
        for mut row in rows {
            match self.own_key(&mut row) {
                Some(own) if own.len() != self.holes.len() || pattern.render(&own) != asked => {}
                _ => same.push(row),
            }
        }
        self.shape(&same)
    }

    /// The key that a row tells, and the row without it; `None` where it is no usable key.
    pub(super) fn own_row(&self, pattern: &Pattern, mut row: Row) -> Option<(Box<[u8]>, Row)> {
        let own = self.own_key(&mut row).unwrap_or_default();
        let key = pattern.render(&own).filter(|_| own.len() == self.holes.len())?;
        Some((key.into(), row))
    }

    /// The key and record of such a row.
    pub(super) fn keyed(&self, pattern: &Pattern, row: Row) -> Result<Option<(Bytes, Option<Record>)>, StoreError> {
        match self.own_row(pattern, row) {
            Some((key, row)) => Ok(Some((Bytes::from(key), self.shape(&[row])?))),
            None => Ok(None),
        }
    }

    /// A record of these rows, which share one key; `None` when Redis would not keep such a value.
    pub(super) fn shape(&self, rows: &[Row]) -> Result<Option<Record>, StoreError> {
        let Some(first) = rows.first() else { return Ok(None) };
        let left = first.get(LEFT).and_then(Cell::text).and_then(|text| text.parse().ok());
        if left.is_some_and(|left: i64| left <= 0) {
            return Ok(None);
        }
        let record = match self.shown.shape {
            Shape::Hash => Record::hash(&self.fields(first)?),
            Shape::String => match self.value(first)? {
                Some(text) => Record::string(text.as_bytes()),
                None => return Ok(None),
            },
            Shape::List => Record::list(&self.elements(rows)?),
            Shape::Set => Record::set(&self.elements(rows)?),
        };
        let record = record.map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok((!record.is_empty()).then(|| record.living(left)))
    }

    fn fields(&self, row: &Row) -> Result<Vec<(String, String)>, StoreError> {
        let mut row = row.clone();
        row.take(LEFT);
        let overflow = self.shown.overflow.as_ref().and_then(|column| row.take(column));
        let mut fields: Vec<(String, String)> = Vec::with_capacity(row.0.len());
        let mut add = |name: &str, cell: &Cell| {
            if let Some(text) = cell.text().filter(|_| fields.iter().all(|(known, _)| known != name)) {
                fields.push((name.to_owned(), text.to_owned()));
            }
        };
        if self.shown.fields.is_empty() {
            row.0.iter().for_each(|(name, cell)| add(name, cell));
        } else {
            self.shown.fields.iter().for_each(|name| add(name, row.get(name).unwrap_or(&Cell::Null)));
        }
        if let Some(text) = overflow.as_ref().and_then(Cell::text) {
            let Members(more) = serde_json::from_str(text)
                .map_err(|error| StoreError::Refused(format!("the overflow column holds no JSON object: {error}")))?;
            more.0.iter().for_each(|(name, cell)| add(name, cell));
        }
        Ok(fields)
    }

    fn value<'r>(&self, row: &'r Row) -> Result<Option<&'r str>, StoreError> {
        let column = self.shown.value.as_deref().unwrap_or_default();
        let cell = row.get(column).ok_or_else(|| StoreError::Refused(format!("no column '{column}' in the rows")))?;
        Ok(cell.text())
    }

    fn elements(&self, rows: &[Row]) -> Result<Vec<String>, StoreError> {
        if self.shown.value.is_some() {
            let texts = rows.iter().map(|row| Ok(self.value(row)?.map(str::to_owned)));
            return texts.filter_map(Result::transpose).collect();
        }
        Ok(rows.iter().map(Row::to_json).collect())
    }
}
