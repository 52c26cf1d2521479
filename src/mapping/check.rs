//! Checks one block of `[[definitions]]` or `[[caches]]` for settings that exclude each other.

use std::time::Duration;

use super::{Kind, Mapping};
use crate::config::{DeleteMode, Faults, MappingConfig, Shape, WriteMode};

/// Notes everything that contradicts itself in the block of `mapping`; true when nothing does.
pub(super) fn check(mapping: &Mapping, faults: &mut Faults) -> bool {
    let mut check = Check { mapping, block: &mapping.config, faults, is_sound: true };
    check.source();
    check.shape();
    check.life();
    check.deferral();
    check.writes();
    check.names();
    check.limits();
    check.is_sound
}

/// What is said of a limit that would let nothing through.
const AT_LEAST_ONE: &str = "must be at least 1; without it there is no limit";

struct Check<'c> {
    mapping: &'c Mapping,
    block: &'c MappingConfig,
    faults: &'c mut Faults,
    is_sound: bool,
}

impl Check<'_> {
    /// Notes `message` at the block's `key`, unless `holds`.
    fn require(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.is_sound = false;
            self.faults.add(format!("{}.{key}", self.block.path), message);
        }
    }

    const fn has_table(&self) -> bool {
        self.block.table.is_some()
    }

    fn is(&self, shape: Shape) -> bool {
        self.block.shape == shape
    }

    /// A hash or string whose row is in a table: what can be written later, or has a column that says when it expires.
    fn is_row(&self) -> bool {
        self.has_table() && (self.is(Shape::Hash) || self.is(Shape::String))
    }

    /// Where its records come from, and which keys they have.
    fn source(&mut self) {
        let block = self.block;
        let sources = [block.table.is_some(), block.query.is_some(), block.file.is_some()];
        let is_one = sources.iter().filter(|is_given| **is_given).count() == 1;
        let choice = if self.mapping.kind == Kind::Definition { "table, query or file" } else { "table or query" };
        self.require(is_one, "table", format!("give exactly one of {choice}"));
        if self.mapping.pattern.is_one_key() {
            self.one_key();
        }
    }

    /// A key without a placeholder: what a query selects without a parameter, or one column of all rows of a table.
    fn one_key(&mut self) {
        let (block, is_set) = (self.block, self.is(Shape::Set));
        let no_rows = format!(
            "has no {{placeholder}}, and a {} is one row of a table, which it would not name: give it a placeholder, \
             or write a query that selects one row",
            block.shape.name()
        );
        self.require(!self.has_table() || is_set || self.is(Shape::List), "key", no_rows);
        let no_entries = "has no {placeholder}, and each entry of a file is a key: give it a placeholder";
        self.require(block.file.is_none(), "key", no_entries);
        let no_row = "has no {placeholder}, and no row of a table is its own: it takes no writes; leave out write, or \
            write = \"fill\"";
        self.require(!block.writes_table(), "key", no_row);
        let all_rows = "\"row\" would delete every row of the table: the key has no {placeholder}";
        self.require(block.delete != DeleteMode::Row, "delete", all_rows);
    }

    /// Which columns a record shows.
    fn shape(&mut self) {
        let (block, is_hash) = (self.block, self.is(Shape::Hash));
        let shows_one = self.is(Shape::String) || self.is(Shape::Set);
        let names_one = block.value.is_some() || block.file.is_some();
        let name_it = format!("a {} shows one column: name it", block.shape.name());
        self.require(!shows_one || names_one, "value", name_it);
        self.require(!is_hash || block.value.is_none(), "value", "a hash shows columns as fields; use fields");
        self.require(is_hash || block.overflow.is_none(), "overflow", "only a hash has fields to overflow");
        let has_order = !self.is(Shape::List) || !self.has_table();
        self.require(has_order, "table", "a list needs an order: use query with ORDER BY");
        let has_column = self.has_table() || block.query.is_some();
        self.require(has_column || block.overflow.is_none(), "overflow", "is a column of a table or query");
    }

    /// Until when a record is served.
    fn life(&mut self) {
        let block = self.block;
        // Of a watch that cannot be read, that is said.
        let is_unread = self.faults.concern_elements_of(&format!("{}.watch", block.path));
        self.require(
            !self.mapping.is_blind() || block.ttl.is_some() || is_unread,
            "watch",
            "a query without watch and without ttl would never change in memory: give one of them",
        );
        // Shorter ones are none at all in milliseconds, by which they are counted.
        let is_kept = block.ttl.is_none_or(|ttl| ttl >= Duration::from_millis(1));
        self.require(is_kept, "ttl", "must be at least \"1ms\"; without ttl a record is kept until it changes");
        let serves_stale = block.stale_while_revalidate.is_some() || block.stale_if_error.is_some();
        self.require(
            !serves_stale || (block.ttl.is_some() && block.expires_column.is_none()),
            "stale_while_revalidate",
            "and stale_if_error are counted from the end of a ttl; what ends by a column is never served after it",
        );
        self.require(
            block.expires_column.is_none() || self.is_row(),
            "expires_column",
            "is a column of a table, for a hash or string",
        );
    }

    /// What is written later.
    fn deferral(&mut self) {
        let block = self.block;
        let defers = block.write == WriteMode::Deferred || !block.deferred.is_empty();
        self.require(!defers || self.is_row(), "deferred", "is for hashes and strings of a table");
        self.require(
            block.deferred.is_empty() || (block.write == WriteMode::Through && self.is(Shape::Hash)),
            "deferred",
            "names fields of a hash with write = \"through\"; write = \"deferred\" defers a whole mapping",
        );
    }

    /// How it is written.
    fn writes(&mut self) {
        let (block, has_table) = (self.block, self.has_table());
        let (is_through, has_statements) =
            (block.write == WriteMode::Through, block.push.is_some() || block.remove.is_some());
        self.require(
            !is_through || has_table || has_statements,
            "write",
            "\"through\" needs a table to write to, or push and remove statements of a list",
        );
        self.require(
            !has_statements || (self.is(Shape::List) && is_through),
            if block.push.is_some() { "push" } else { "remove" },
            "is for lists with write = \"through\"",
        );
        let deletes_rows = block.delete == DeleteMode::Row;
        self.require(!deletes_rows || has_table, "delete", "\"row\" needs a table whose rows can be deleted");
    }

    /// How much of it is loaded, and owned.
    fn limits(&mut self) {
        let block = self.block;
        self.require(block.percent <= 100, "percent", "must be at most 100; it is a part of the keys");
        self.require(block.loads != Some(0), "loads", AT_LEAST_ONE);
        let has_rate = block.load_burst.is_none() || block.load_rate.is_some();
        self.require(has_rate, "load_burst", "is what may come at once where load_rate is given");
        self.require(block.load_burst != Some(0), "load_burst", AT_LEAST_ONE);
    }

    /// Which placeholders its columns are named for.
    fn names(&mut self) {
        let block = self.block;
        let watched = block.watch.iter().map(|watch| ("watch", &watch.key));
        for (key, columns) in std::iter::once(("key_columns", &block.key_columns)).chain(watched) {
            for placeholder in columns.keys() {
                let is_known = self.mapping.pattern.placeholders().any(|(name, _)| name == placeholder);
                self.require(is_known, key, format!("'{placeholder}' is no placeholder of '{}'", block.key));
            }
        }
        let columns = self.mapping.columns(&block.key_columns);
        let again = columns.iter().enumerate().find(|(at, column)| columns[..*at].contains(column));
        let text = again.map(|(_, column)| format!("two placeholders of '{}' are the column '{column}'", block.key));
        self.require(block.table.is_none() || again.is_none(), "key_columns", text.unwrap_or_default());
    }
}
