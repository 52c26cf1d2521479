//! Where the writes of a mapping go: its table, and how each field finds its column.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::columns::{quote, shows};
use crate::config::MappingConfig;
use crate::mapping::Mapping;
use crate::resp::number::parse_i64;

/// What a column holds, as far as arithmetic and times need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Holds {
    /// Whole numbers.
    Integers,
    /// Numbers.
    Numbers,
    /// `true` or `false`.
    Booleans,
    /// JSON text.
    Json,
    /// Moments, written and read as seconds since 1970.
    Epochs,
    /// Moments as text.
    Times,
    /// Text, and everything else that has a text form.
    Texts,
}

/// A column that may be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type that text is cast to.
    pub(super) cast: String,
    pub(super) holds: Holds,
    /// In which zone it holds moments, of a column of Postgres that does not say.
    pub(super) zone: Option<String>,
}

impl Column {
    /// The name, quoted.
    pub(super) fn quoted(&self) -> String {
        quote(&self.name)
    }

    /// True when an integer column is wide enough.
    fn has_room(&self, number: i64) -> bool {
        match self.cast.rsplit('.').next() {
            Some("int2") => i16::try_from(number).is_ok(),
            Some("int4") => i32::try_from(number).is_ok(),
            _ => true,
        }
    }

    /// The error for a value that the column does not take.
    pub(super) fn refuses(&self, field: &str) -> StoreError {
        let shown = if field.is_empty() { &self.name } else { field };
        let kind = self.cast.rsplit('.').next().unwrap_or(&self.cast).trim_matches('"');
        StoreError::field(shown, format!("the column '{}' ({kind}) refuses the value", self.name))
    }
}

/// A table that takes writes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Quoted.
    pub(super) table: String,
    /// The key's columns, quoted, in the order of the holes.
    pub(super) keys: Vec<String>,
    /// Their types, for Postgres.
    pub(super) key_casts: Vec<String>,
    /// What a SELECT of a record selects.
    pub(super) shown: String,
    pub(super) columns: Vec<Column>,
    pub(super) overflow: Option<Column>,
    /// Says when a row ends.
    pub(super) expires: Option<Expires>,
}

/// The column that says when a row ends.
#[derive(Clone, Debug)]
pub(super) struct Expires {
    /// Quoted.
    pub(super) column: String,
    /// As [`Column::zone`].
    pub(super) zone: Option<String>,
    pub(super) surety: Surety,
}

/// How sure it is which moment a column means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surety {
    /// It says so itself, or the settings do.
    Told,
    /// The database's settings say so; a session may have another zone all the same.
    Found,
    /// They contradict each other, or cannot be seen.
    Doubted,
}

/// Where a field is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'t> {
    Column(&'t Column),
    /// A member of the overflow column.
    Member(&'t Column),
}

impl Place<'_> {
    /// Refuses what the column's kind cannot be; the store may refuse more.
    ///
    /// # Errors
    /// [`StoreError::Field`].
    pub(super) fn check(&self, field: &str, value: &str) -> Result<(), StoreError> {
        let Self::Column(column) = self else { return Ok(()) };
        let is_number = || value.parse().is_ok_and(|number: f64| number.is_finite());
        let fits = match column.holds {
            Holds::Integers => parse_i64(value.as_bytes()).is_some_and(|number| column.has_room(number)),
            Holds::Numbers | Holds::Epochs => is_number(),
            Holds::Booleans => matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "t" | "f" | "1" | "0"),
            Holds::Json => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
            Holds::Times | Holds::Texts => true,
        };
        if fits { Ok(()) } else { Err(column.refuses(field)) }
    }
}

impl Target {
    /// The target of a mapping's table, whose columns these are; `surety` is that of moments without a zone.
    pub(super) fn of(
        mapping: &Mapping,
        (table, shown): (String, String),
        key_casts: Vec<String>,
        columns: impl Iterator<Item = Column>,
        surety: Surety,
    ) -> Self {
        let block = &mapping.config;
        let keys = mapping.columns(&block.key_columns);
        let all: Vec<Column> = columns.collect();
        let expires = all.iter().find(|c| block.expires_column.as_deref() == Some(&c.name)).map(|c| Expires {
            column: c.quoted(),
            zone: c.zone.clone(),
            surety: if c.zone.is_some() { surety } else { Surety::Told },
        });
        let columns: Vec<Column> =
            all.into_iter().filter(|c| shows(block, &keys, &c.name) && !keys.contains(&c.name)).collect();
        let overflow = columns.iter().find(|c| block.overflow.as_deref() == Some(&c.name)).cloned();
        let keys = keys.iter().map(|key| quote(key)).collect();
        Self { table, keys, key_casts, shown, columns, overflow, expires }
    }

    /// The same, if every field that is deferred has a place.
    ///
    /// # Errors
    /// [`StoreError::Faults`].
    pub(super) fn checked(self, block: &MappingConfig) -> Result<Self, StoreError> {
        let has_place = |field: &String| self.place(field, block).is_ok();
        let faults: Vec<_> = block.deferred.iter().filter(|field| !has_place(field)).map(|field| {
            let text = format!(
                "'{field}' is no column of {} that is written, and there is no overflow column for it; name one of its fields",
                self.table
            );
            ("deferred", text)
        }).collect();
        if faults.is_empty() { Ok(self) } else { Err(StoreError::Faults(faults)) }
    }

    /// The place of a field; a string's value has no name.
    ///
    /// # Errors
    /// [`StoreError::Field`] when there is none.
    pub(super) fn place(&self, field: &str, block: &MappingConfig) -> Result<Place<'_>, StoreError> {
        let name = if field.is_empty() { block.value.as_deref().unwrap_or(field) } else { field };
        let is_overflow = |column: &Column| block.overflow.as_deref() == Some(&column.name);
        match (self.columns.iter().find(|column| column.name == name), &self.overflow) {
            (Some(column), _) if !is_overflow(column) => Ok(Place::Column(column)),
            (_, Some(overflow)) => Ok(Place::Member(overflow)),
            _ => Err(StoreError::field(
                field,
                "the table has no such column to write, and the mapping no overflow column",
            )),
        }
    }
}

/// A field's or value's text.
///
/// # Errors
/// [`StoreError::Field`] for bytes that no column of text can hold.
pub(super) fn text<'v>(value: &'v [u8], field: &str) -> Result<&'v str, StoreError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(StoreError::field(field, "the value is not text (UTF-8 without NUL), which is what columns hold")),
    }
}
