//! Where the writes of a mapping go: its table, and how each field finds its column. Knows no engine and no statement.

use super::relation::{Column, Filled, Holds, Relation, Surety, quote};
use super::requirements::{shows, unique_columns};
use crate::config::MappingConfig;
use crate::mapping::Mapping;
use crate::record::Change;
use crate::resp::number::parse_i64;
use crate::store::StoreError;

/// A table that takes writes.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Target {
    /// Quoted.
    pub(in crate::store) table: String,
    /// The key's columns, quoted, in the order of the placeholders in the key's pattern.
    pub(in crate::store) keys: Vec<String>,
    /// Their types.
    pub(in crate::store) key_casts: Vec<String>,
    /// What a SELECT of a record selects.
    pub(in crate::store) shown: String,
    pub(in crate::store) columns: Vec<Column>,
    /// The names of the table's other columns, which are no fields that are written.
    pub(in crate::store) others: Vec<String>,
    /// The database would give a column of the key or of a set's members its values (`GENERATED ALWAYS AS IDENTITY`).
    pub(in crate::store) has_identity: bool,
    pub(in crate::store) overflow: Option<Column>,
    /// Says when a row expires.
    pub(in crate::store) expires: Option<Expires>,
}

/// The column that says when a row expires.
#[derive(Clone, Debug)]
pub(in crate::store) struct Expires {
    /// Quoted.
    pub(in crate::store) column: String,
    /// As [`Column::zone`].
    pub(in crate::store) zone: Option<String>,
    pub(in crate::store) surety: Surety,
    /// It may not be NULL: a row without an end cannot be.
    pub(in crate::store) is_required: bool,
}

/// Where a field is kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Place<'t> {
    Column(&'t Column),
    /// A member of the overflow column.
    Member(&'t Column),
}

/// A field of a write, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct FieldChange<'w> {
    /// Empty for a value that has no name.
    pub(in crate::store) field: &'w str,
    pub(in crate::store) place: Place<'w>,
    pub(in crate::store) change: &'w Change,
}

impl FieldChange<'_> {
    /// The column it goes to, unless it is a member of the overflow column: under the name that an error gives it.
    pub(in crate::store) fn column(&self) -> Option<(&str, &Column)> {
        match self.place {
            Place::Column(column) if self.field.is_empty() => Some((&column.name, column)),
            Place::Column(column) => Some((self.field, column)),
            Place::Member(_) => None,
        }
    }
}

impl Place<'_> {
    /// Refuses what the column's kind cannot be; the store may refuse more.
    ///
    /// # Errors
    /// [`StoreError::Field`].
    pub(in crate::store) fn check(&self, field: &str, value: &str) -> Result<(), StoreError> {
        let Self::Column(column) = self else { return Ok(()) };
        let is_number = || value.parse().is_ok_and(|number: f64| number.is_finite());
        let fits = match column.holds {
            Holds::Integers => parse_i64(value.as_bytes()).is_some_and(|number| column.has_room(number)),
            Holds::Numbers | Holds::Epochs => is_number(),
            Holds::Booleans => matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "t" | "f" | "1" | "0"),
            Holds::Json => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
            Holds::Times | Holds::Texts | Holds::Structures | Holds::Foreign => true,
        };
        if fits { Ok(()) } else { Err(column.refuses(field)) }
    }
}

impl Target {
    /// The target of a mapping with this table; `shown` is what a SELECT of its records selects.
    pub(in crate::store) fn of(mapping: &Mapping, table: &Relation, shown: String) -> Self {
        let block = &mapping.config;
        let keys = mapping.columns(&block.key_columns);
        let unique = unique_columns(block, &keys);
        let is_written = |column: &Column| {
            let is_open = column.filled == Filled::ByWriter || unique.contains(&column.name);
            shows(block, &keys, &column.name) && !keys.contains(&column.name) && is_open
        };
        let (columns, others): (Vec<Column>, Vec<Column>) = table.columns.iter().cloned().partition(is_written);
        let is_identity = |name: &String| table.column(name).is_some_and(|one| one.filled == Filled::AsIdentity);
        let cast_of = |key: &String| table.column(key).map(|column| column.key_cast().to_owned()).unwrap_or_default();
        let expires = block.expires_column.as_deref().and_then(|name| table.column(name)).map(|column| Expires {
            column: column.quoted(),
            zone: column.zone.clone(),
            surety: if column.zone.is_some() { table.surety } else { Surety::Stated },
            is_required: column.is_required,
        });
        Self {
            table: table.name.clone(),
            key_casts: keys.iter().map(cast_of).collect(),
            keys: keys.iter().map(|key| quote(key)).collect(),
            shown,
            overflow: columns.iter().find(|column| block.overflow.as_deref() == Some(&column.name)).cloned(),
            columns,
            others: others.into_iter().map(|column| column.name).collect(),
            has_identity: unique.iter().any(is_identity),
            expires,
        }
    }

    /// The same, if every field that is deferred has a place.
    ///
    /// # Errors
    /// [`StoreError::Faults`].
    pub(in crate::store) fn checked(self, block: &MappingConfig) -> Result<Self, StoreError> {
        let has_place = |field: &String| self.place(field, block).is_ok();
        let fault = |field: &String| {
            let text = format!(
                "'{field}' is no column of {} that is written, and there is no overflow column for it; \
                 name one of its fields",
                self.table
            );
            ("deferred", text)
        };
        let faults: Vec<_> = block.deferred.iter().filter(|field| !has_place(field)).map(fault).collect();
        if faults.is_empty() { Ok(self) } else { Err(StoreError::Faults(faults)) }
    }

    /// The place of a field; a string's value has no name.
    ///
    /// # Errors
    /// [`StoreError::Field`] when there is none.
    pub(in crate::store) fn place(&self, field: &str, block: &MappingConfig) -> Result<Place<'_>, StoreError> {
        let name = if field.is_empty() { block.value.as_deref().unwrap_or(field) } else { field };
        let is_overflow = |column: &Column| block.overflow.as_deref() == Some(&column.name);
        match (self.columns.iter().find(|column| column.name == name), &self.overflow) {
            (Some(column), _) if !is_overflow(column) => Ok(Place::Column(column)),
            (found, _) if found.is_some() || self.others.iter().any(|other| other == name) => Err(StoreError::field(
                field,
                "it is a column that is not written through this mapping: of the key, computed by the database, the \
                 expiry, or not among its fields",
            )),
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
pub(in crate::store) fn text<'v>(value: &'v [u8], field: &str) -> Result<&'v str, StoreError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(StoreError::field(field, "the value is not text (UTF-8 without NUL), which is what columns hold")),
    }
}
