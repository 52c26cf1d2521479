//! `[[definitions]]` and `[[caches]]`: one block ties a key pattern to a table, query or file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Mode, Rate};

/// The Redis type that a mapping shows its rows as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Field = column.
    Hash,
    /// One element per row.
    List,
    /// One column of one row.
    String,
    /// One member per row.
    Set,
}

impl Shape {
    /// The name that `TYPE` answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::List => "list",
            Self::String => "string",
            Self::Set => "set",
        }
    }
}

/// How a timestamp column becomes text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// `2026-11-20T08:27:41+00:00`.
    #[default]
    Rfc3339,
    /// Seconds since 1970, with a fraction where there is one.
    Epoch,
}

/// What becomes of a command that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// It is refused with an error.
    #[default]
    Reject,
    /// It is answered when the store has committed it.
    Through,
    /// It is answered when it is in the journal, and saved later.
    Deferred,
    /// It is taken for what cache-aside code does after a miss: the store is not written, the key is forgotten.
    Fill,
}

/// What DEL does to a cached key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeleteMode {
    /// It is forgotten, and the next read loads it again.
    #[default]
    Invalidate,
    /// Its rows are deleted.
    Row,
}

/// A table whose changes concern a mapping, and the column behind each placeholder of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The table, perhaps with its schema.
    pub table: String,
    /// Placeholder = column; a placeholder that is not named has the column of its own name.
    #[serde(default)]
    pub key: BTreeMap<String, String>,
    /// The table does not say which keys it concerns: any change concerns the whole mapping.
    #[serde(default)]
    pub whole: bool,
}

impl MappingConfig {
    /// True when commands write rows of its table.
    #[must_use]
    pub const fn writes_table(&self) -> bool {
        self.table.is_some() && matches!(self.write, WriteMode::Through | WriteMode::Deferred)
    }

    /// True when commands change rows of the store in some way.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        let has_statements = self.push.is_some() || self.remove.is_some();
        self.writes_table() || has_statements || self.expires_column.is_some() || matches!(self.delete, DeleteMode::Row)
    }

    /// True when some of its writes are acknowledged from the journal.
    #[must_use]
    pub const fn defers(&self) -> bool {
        matches!(self.write, WriteMode::Deferred) || !self.deferred.is_empty() || self.expires_column.is_some()
    }

    /// One that has every key that there is.
    pub(super) fn example() -> Self {
        let watch = Watch { table: String::new(), key: BTreeMap::new(), whole: false };
        Self {
            path: String::new(),
            key: String::new(),
            shape: Shape::Hash,
            table: None,
            query: None,
            key_columns: BTreeMap::new(),
            fields: Vec::new(),
            value: None,
            overflow: None,
            timestamps: Timestamps::default(),
            watch: vec![watch],
            file: None,
            ttl: None,
            renew: false,
            stale_while_revalidate: None,
            stale_if_error: None,
            max_staleness: None,
            negative_ttl: None,
            write: WriteMode::default(),
            delete: DeleteMode::default(),
            deferred: Vec::new(),
            expires_column: None,
            push: None,
            remove: None,
            load_rate: None,
            load_burst: None,
            loads: None,
            mode: Mode::default(),
            percent: 0,
            mirror: false,
        }
    }

    /// True when both say the same, wherever they stand, but for limits and modes: those change while the mapping is
    /// served.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { path, load_rate, load_burst, loads, mode, percent, .. } = other.clone();
        Self { path, load_rate, load_burst, loads, mode, percent, ..self.clone() } == *other
    }
}

/// One block: where a mapping's rows come from, and how they are shown and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingConfig {
    /// Where the block stands: `caches[0]`.
    #[serde(skip)]
    pub path: String,
    /// The key pattern.
    pub key: String,
    /// The shape.
    #[serde(rename = "type")]
    pub shape: Shape,
    /// A table: field = column.
    pub table: Option<String>,
    /// A query; `$1`, `$2` ... are the placeholders in order.
    pub query: Option<String>,
    /// Placeholder = key column of the table, where the names differ.
    #[serde(default)]
    pub key_columns: BTreeMap<String, String>,
    /// The columns shown, in this order; empty: all but key columns and the overflow column.
    #[serde(default)]
    pub fields: Vec<String>,
    /// The one column that a string, set or list shows.
    pub value: Option<String>,
    /// A JSON column whose members are fields too.
    pub overflow: Option<String>,
    /// The form of timestamps of a table.
    #[serde(default)]
    pub timestamps: Timestamps,
    /// Tables whose changes concern this mapping; a table mapping watches its own table.
    #[serde(default)]
    pub watch: Vec<Watch>,
    /// Definitions: a JSON file instead of a table or query.
    pub file: Option<PathBuf>,
    /// Caches: how long a record is kept; none: until it changes or is evicted.
    #[serde(default, with = "humantime_serde")]
    pub ttl: Option<Duration>,
    /// Caches: reads start the TTL again.
    #[serde(default)]
    pub renew: bool,
    /// Caches: how long after its TTL a record is still served while it is loaded again.
    #[serde(default, with = "humantime_serde")]
    pub stale_while_revalidate: Option<Duration>,
    /// Caches: how long after its TTL a record is still served when the store cannot be asked.
    #[serde(default, with = "humantime_serde")]
    pub stale_if_error: Option<Duration>,
    /// Caches: the oldest value served while changes may be missed; none: `cache.max_staleness`.
    #[serde(default, with = "humantime_serde")]
    pub max_staleness: Option<Duration>,
    /// Caches: how long an absent key is remembered; none: `cache.negative_ttl`.
    #[serde(default, with = "humantime_serde")]
    pub negative_ttl: Option<Duration>,
    /// Caches: what becomes of commands that write.
    #[serde(default)]
    pub write: WriteMode,
    /// Caches: what DEL does.
    #[serde(default)]
    pub delete: DeleteMode,
    /// Hashes: fields whose writes are acknowledged from the journal and saved later.
    #[serde(default)]
    pub deferred: Vec<String>,
    /// Hashes and strings of a table: the timestamp column that says when the key expires; it is none of its fields.
    /// Written empty, none on purpose.
    #[serde(default, deserialize_with = "unless_empty")]
    pub expires_column: Option<String>,
    /// Lists: adds one element (RPUSH). The parameter after the placeholders is the element.
    pub push: Option<String>,
    /// Lists: takes elements out (LREM). The parameters after the placeholders are the element and LREM's count.
    pub remove: Option<String>,
    /// Caches: keys that commands load from the store, in a time; none: as many as they like.
    pub load_rate: Option<Rate>,
    /// So many may be loaded at once after a silence; none: what `load_rate` allows in a second.
    pub load_burst: Option<u32>,
    /// Caches: commands for which keys are loaded from the store at the same time, at most.
    pub loads: Option<u32>,
    /// Who answers for its keys.
    #[serde(default)]
    pub mode: Mode,
    /// For so many of a hundred keys, by their names; the others are the upstream's.
    #[serde(default = "every")]
    pub percent: u8,
    /// Caches: what was written is brought to the upstream, so that it is there when the mapping is switched off.
    #[serde(default)]
    pub mirror: bool,
}

/// All keys.
const fn every() -> u8 {
    100
}

fn unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}
