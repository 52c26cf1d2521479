//! The statements that write the rows of one key, whose parameters come first in each. Pure; knows no connection.

use crate::store::catalog::relation::Column;
use crate::store::catalog::target::Target;
use crate::store::dialect::Dialect;

/// Makes the statements of a mapping that writes to a table.
#[derive(Clone, Copy)]
pub(super) struct Statements<'p>(pub(super) &'p Target);

impl Statements<'_> {
    /// The number of the first parameter behind the key's.
    const fn first(&self) -> usize {
        self.0.keys.len() + 1
    }

    /// The placeholders of the key.
    fn key(&self) -> Vec<String> {
        (1..self.first()).map(|number| format!("?{number}")).collect()
    }

    /// `key = ?1 AND ...`
    fn is_ours(&self) -> String {
        let equal: Vec<String> =
            self.0.keys.iter().zip(self.key()).map(|(key, place)| format!("{key} = {place}")).collect();
        equal.join(" AND ")
    }

    /// What the first column of these parameters is set to, and the next ones: each column, quoted, and its value.
    fn values(&self, columns: &[&Column]) -> Vec<(String, String)> {
        let value = |(i, column): (usize, &&Column)| {
            (column.quoted(), Dialect::Sqlite.value(column, &format!("?{}", self.first() + i)))
        };
        columns.iter().enumerate().map(value).collect()
    }

    pub(super) fn exists(&self) -> String {
        format!("SELECT 1 FROM {} WHERE {}", self.0.table, self.is_ours())
    }

    /// Removes the row if it has ended; `None` where rows do not end.
    pub(super) fn bury(&self) -> Option<String> {
        let column = &self.0.expires.as_ref()?.column;
        let ended = format!("unixepoch({column}, 'subsec') <= unixepoch('now', 'subsec')");
        Some(format!("DELETE FROM {} WHERE {} AND {ended}", self.0.table, self.is_ours()))
    }

    /// The overflow column of the row.
    pub(super) fn overflow(&self, overflow: &Column) -> String {
        format!("SELECT {} FROM {} WHERE {}", overflow.quoted(), self.0.table, self.is_ours())
    }

    /// Finds the columns that the table has now among names, which are an array in JSON.
    pub(super) fn columns_among(&self) -> String {
        format!(
            "SELECT 1 FROM pragma_table_xinfo('{}') WHERE hidden <> 1 AND name IN (SELECT value FROM json_each(?{}))",
            unquoted(&self.0.table).replace('\'', "''"),
            self.first()
        )
    }

    /// Sets columns of the row that is there.
    pub(super) fn update(&self, columns: &[&Column]) -> String {
        let sets: Vec<String> =
            self.values(columns).into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!("UPDATE {} SET {} WHERE {}", self.0.table, sets.join(", "), self.is_ours())
    }

    /// Makes the row with these columns; with `ends`, the next parameter says in how many seconds it expires.
    pub(super) fn insert(&self, columns: &[&Column], ends: bool) -> String {
        let mut set = self.values(columns);
        if let Some(expires) = self.0.expires.as_ref().filter(|_| ends) {
            set.push((expires.column.clone(), in_seconds(self.first() + columns.len())));
        }
        let (names, values): (Vec<_>, Vec<_>) = set.into_iter().unzip();
        let (names, values) = ([self.0.keys.clone(), names].concat(), [self.key(), values].concat());
        format!("INSERT INTO {} ({}) VALUES ({})", self.0.table, names.join(", "), values.join(", "))
    }

    /// Sets when the row ends: in so many seconds, which are a text with a sign, or never.
    pub(super) fn set_end(&self, ends: bool) -> Option<String> {
        let (column, first) = (&self.0.expires.as_ref()?.column, self.first());
        let value = match ends {
            true => in_seconds(first),
            false => format!("?{first}"),
        };
        Some(format!("UPDATE {} SET {column} = {value} WHERE {}", self.0.table, self.is_ours()))
    }

    /// Adds so many members to a set, or removes them.
    pub(super) fn members(&self, column: &Column, count: usize, add: bool) -> String {
        let values = (0..count).map(|i| Dialect::Sqlite.value(column, &format!("?{}", self.first() + i)));
        let (table, name) = (&self.0.table, column.quoted());
        if !add {
            let values: Vec<String> = values.collect();
            return format!(
                "DELETE FROM {table} WHERE {} AND {name} IN ({}) RETURNING 1",
                self.is_ours(),
                values.join(", ")
            );
        }
        let (keys, key) = (self.0.keys.join(", "), self.key().join(", "));
        let rows: Vec<String> = values.map(|value| format!("({key}, {value})")).collect();
        format!(
            "INSERT INTO {table} ({keys}, {name}) VALUES {} ON CONFLICT ({keys}, {name}) DO NOTHING RETURNING 1",
            rows.join(", ")
        )
    }

    /// Finds a member of a set.
    pub(super) fn held(&self, column: &Column) -> String {
        let (name, value) = (column.quoted(), Dialect::Sqlite.value(column, &format!("?{}", self.first())));
        format!("SELECT 1 FROM {} WHERE {} AND {name} = {value}", self.0.table, self.is_ours())
    }

    pub(super) fn delete(&self) -> String {
        format!("DELETE FROM {} WHERE {} RETURNING 1", self.0.table, self.is_ours())
    }
}

/// A name without the quotes that it may be in.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// The time in so many seconds from now, which are the text of this parameter, with a sign.
fn in_seconds(parameter: usize) -> String {
    format!("strftime('%Y-%m-%d %H:%M:%f', 'now', ?{parameter} || ' seconds')")
}
