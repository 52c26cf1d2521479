//! A table and its columns, as an engine's catalog says they are. Knows no mapping, and of SQL only how names are
//! quoted.

use serde::{Deserialize, Serialize};

use crate::store::StoreError;

/// An SQL identifier, quoted.
pub(in crate::store) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table or view.
#[derive(Clone, Debug)]
pub(in crate::store) struct Relation {
    /// Its name, quoted where that is needed.
    pub(in crate::store) name: String,
    pub(in crate::store) columns: Vec<Column>,
    /// How sure it is which points in time its columns without a time zone mean.
    pub(in crate::store) surety: Surety,
    /// What an operator should make certain of these: a key of the mapping's block, and the doubt.
    pub(in crate::store) doubts: Vec<(&'static str, String)>,
}

impl Relation {
    /// A table whose timestamps are certain.
    pub(in crate::store) const fn new(name: String, columns: Vec<Column>) -> Self {
        Self { name, columns, surety: Surety::Stated, doubts: Vec::new() }
    }

    pub(in crate::store) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column. The journal remembers it: what is added here must have a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    /// Its type: in Postgres what text is cast to, with its schema and quoted; in SQLite as it was declared, in
    /// capitals.
    pub(in crate::store) cast: String,
    pub(in crate::store) holds: Holds,
    /// The zone of its timestamps, for a column of Postgres that does not say.
    pub(in crate::store) zone: Option<String>,
}

/// What a column holds, as far as arithmetic and times need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Holds {
    /// Whole numbers.
    Integers,
    /// Numbers.
    Numbers,
    /// `true` or `false`.
    Booleans,
    /// JSON text.
    Json,
    /// Timestamps that the mapping shows as seconds since 1970.
    Epochs,
    /// Timestamps as text.
    Times,
    /// Text, and everything else that has a text form.
    Texts,
}

/// How sure it is which point in time a column means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Surety {
    /// The column itself says it, or the settings do.
    Stated,
    /// The database's settings say so; a session may have another zone all the same.
    Found,
    /// They contradict each other, or cannot be seen.
    Doubted,
}

impl Column {
    /// The name, quoted.
    pub(in crate::store) fn quoted(&self) -> String {
        quote(&self.name)
    }

    /// The name of its type, without a schema.
    pub(in crate::store) fn kind(&self) -> &str {
        self.cast.rsplit('.').next().unwrap_or(&self.cast).trim_matches('"')
    }

    pub(in crate::store) const fn is_time(&self) -> bool {
        matches!(self.holds, Holds::Times | Holds::Epochs)
    }

    /// True when an integer column is wide enough.
    pub(in crate::store) fn has_room(&self, number: i64) -> bool {
        match self.kind() {
            "int2" => i16::try_from(number).is_ok(),
            "int4" => i32::try_from(number).is_ok(),
            _ => true,
        }
    }

    /// The error for a value that the column does not take.
    pub(in crate::store) fn refuses(&self, field: &str) -> StoreError {
        let shown = if field.is_empty() { &self.name } else { field };
        StoreError::field(shown, format!("the column '{}' ({}) refuses the value", self.name, self.kind()))
    }
}
