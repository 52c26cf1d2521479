//! A table and its columns, as an engine's catalog says they are. Knows no mapping, and of SQL only how names are
//! quoted.

use serde::{Deserialize, Serialize};

use super::described::Param;
use crate::store::StoreError;

/// An SQL identifier, quoted.
pub(in crate::store) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What has rows, and is no table that says what changes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Untold {
    View,
    Materialized,
    Foreign,
}

/// A table or view.
#[derive(Clone, Debug)]
pub(in crate::store) struct Relation {
    /// Why it can have no triggers that say what changes; `None` of a table.
    pub(in crate::store) untold: Option<Untold>,
    /// True of what has no index that could keep its rows apart: a view, or a virtual table, of SQLite.
    pub(in crate::store) has_no_indexes: bool,
    /// True of a table that hides rows from some roles, or could (row-level security).
    pub(in crate::store) has_policies: bool,
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
        let doubts = Vec::new();
        Self { untold: None, has_no_indexes: false, has_policies: false, name, columns, surety: Surety::Stated, doubts }
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
    /// The same with its length and so on; of a domain, the type that it is made of.
    #[serde(default)]
    pub(in crate::store) base: Base,
    pub(in crate::store) holds: Holds,
    /// The zone of its timestamps, for a column of Postgres that does not say.
    pub(in crate::store) zone: Option<String>,
    #[serde(default)]
    pub(in crate::store) filled: Filled,
    /// It may not be NULL.
    #[serde(default)]
    pub(in crate::store) is_required: bool,
    /// Its type is a list of labels.
    #[serde(default)]
    pub(in crate::store) is_enum: bool,
}

/// Who gives a column its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Filled {
    /// Whoever writes the row, or its default.
    #[default]
    ByWriter,
    /// The database, unless the writer says that it is to be overridden (`GENERATED ALWAYS AS IDENTITY`).
    AsIdentity,
    /// The database alone, from the other columns (`GENERATED ALWAYS AS ... STORED`, or `VIRTUAL`).
    Computed,
}

/// The type that a column's values have, whatever domains are made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Base {
    /// Its name without a schema; empty where only the cast is known.
    pub(in crate::store) kind: String,
    /// What a key's text is cast to, so that it is written as the column would write it.
    pub(in crate::store) cast: String,
    /// The type without its length and so on, of a domain.
    pub(in crate::store) under_domain: Option<String>,
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
    /// Arrays and composite values, which are shown as JSON.
    Structures,
    /// Timestamps that the mapping shows as seconds since 1970.
    Epochs,
    /// Timestamps as text.
    Times,
    /// Values of an extension's type that JSON would show otherwise than the type takes them (hstore, geometry): they
    /// are shown as its text.
    Foreign,
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
    /// A column by what every engine says of it.
    pub(in crate::store) fn new(name: String, cast: String, holds: Holds) -> Self {
        let (base, filled) = (Base::default(), Filled::default());
        Self { name, cast, base, holds, zone: None, filled, is_required: false, is_enum: false }
    }

    /// The name, quoted.
    pub(in crate::store) fn quoted(&self) -> String {
        quote(&self.name)
    }

    /// The name of its type, without a schema.
    pub(in crate::store) fn kind(&self) -> &str {
        if self.base.kind.is_empty() { &self.cast } else { &self.base.kind }
    }

    /// What a key's text is cast to.
    pub(in crate::store) fn key_cast(&self) -> &str {
        if self.base.cast.is_empty() { &self.cast } else { &self.base.cast }
    }

    /// How the text of a key is bound to it, in Postgres.
    pub(in crate::store) fn param(&self) -> Param {
        match self.kind() {
            "int2" => Param::Int(2),
            "int4" => Param::Int(4),
            "int8" => Param::Int(8),
            "uuid" => Param::Uuid,
            "text" | "varchar" | "name" => Param::Text,
            _ => Param::Cast { to: self.base.cast.clone(), column: self.base.under_domain.clone() },
        }
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
