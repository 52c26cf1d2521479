//! What mappings want to be told of a table. Pure.

use sha2::{Digest, Sha256};

use super::means::Means;
use crate::mapping::Mapping;

/// Of the function's text: another version of it makes other functions.
const fn version(means: Means) -> &'static str {
    match means {
        Means::Notices => "1",
        Means::Outbox => "outbox 1",
    }
}

/// What one mapping wants to be told of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Interest {
    pub(in crate::store) pattern: String,
    /// The columns that the key is made of; `None`: any change concerns the whole mapping.
    pub(in crate::store) key: Option<KeyParts>,
    /// The columns that a change must touch, beside the key's, to be told; `None`: all of them.
    pub(in crate::store) counted: Option<Vec<String>>,
    /// Its rows are what the mapping shows. Triggers have nothing to do with that.
    pub(in crate::store) is_shown: bool,
}

/// A key as literals and columns in turn; a literal is first and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct KeyParts {
    pub(in crate::store) literals: Vec<String>,
    pub(in crate::store) columns: Vec<String>,
}

/// Everything that is to be told of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct TableInterests {
    /// Its name as the mappings write it.
    pub(in crate::store) table: String,
    pub(in crate::store) interests: Vec<Interest>,
}

/// The tables that these mappings watch, in the order in which they name them first.
pub(in crate::store) fn by_table<'m>(mappings: impl IntoIterator<Item = &'m Mapping>) -> Vec<TableInterests> {
    let mut tables: Vec<TableInterests> = Vec::new();
    for (table, interest) in mappings.into_iter().flat_map(of) {
        let known = tables.iter_mut().find(|known| known.table == table);
        match known {
            Some(known) => known.add(interest),
            None => tables.push(TableInterests { table, interests: vec![interest] }),
        }
    }
    // The function is the same in whatever order the configuration has its mappings.
    tables.iter_mut().for_each(|table| table.interests.sort_by_key(|interest| interest.token(Means::Notices)));
    tables
}

impl TableInterests {
    /// Adds an interest; of two that are told the same there is one.
    fn add(&mut self, interest: Interest) {
        let is_same = |known: &&mut Interest| Interest { is_shown: interest.is_shown, ..(*known).clone() } == interest;
        match self.interests.iter_mut().find(is_same) {
            Some(known) => known.is_shown |= interest.is_shown,
            None => self.interests.push(interest),
        }
    }
}

/// Each table that a mapping watches; its own, if it has one, is the first.
fn of(mapping: &Mapping) -> impl Iterator<Item = (String, Interest)> {
    let has_own = mapping.config.table.is_some();
    mapping.watched().into_iter().enumerate().map(move |(i, (table, columns))| {
        let is_own = has_own && i == 0;
        let counted = if is_own { shown(mapping) } else { None };
        // Before a path the key of a row may be read as that of another one, and a more specific mapping may own it.
        let is_shown = is_own && !mapping.pattern.has_path();
        let key = columns.map(|columns| KeyParts { literals: mapping.pattern.pieces().0, columns });
        (table, Interest { pattern: mapping.pattern.text().to_owned(), key, counted, is_shown })
    })
}

/// The columns that a table's mapping depends on beside its key's: what it shows, and what says when a key ends.
fn shown(mapping: &Mapping) -> Option<Vec<String>> {
    let block = &mapping.config;
    if block.fields.is_empty() && block.value.is_none() {
        return None;
    }
    let others = [&block.value, &block.overflow, &block.expires_column].into_iter().flatten();
    let mut columns: Vec<String> = block.fields.iter().chain(others).cloned().collect();
    columns.sort();
    columns.dedup();
    Some(columns)
}

impl Interest {
    /// Stands in the text of every function that serves it.
    pub(super) fn token(&self, means: Means) -> String {
        let mut parts = vec![version(means), &self.pattern];
        if let Some(KeyParts { literals, columns }) = &self.key {
            parts.push("key");
            parts.extend(literals.iter().chain(columns).map(String::as_str));
        }
        if let Some(counted) = &self.counted {
            parts.push("counted");
            parts.extend(counted.iter().map(String::as_str));
        }
        digest(&parts.join("\0"))
    }

    /// What the names of its triggers began with in version 0.2, when each mapping had its own.
    pub(super) fn earlier_prefix(&self) -> String {
        let mut arguments = vec![self.pattern.as_str()];
        if let Some(KeyParts { literals, columns }) = &self.key {
            let mut literals = literals.iter();
            arguments.extend(literals.next().map(String::as_str));
            for (column, literal) in columns.iter().zip(literals) {
                arguments.extend([column.as_str(), literal]);
            }
        }
        format!("hearthside_{:08x}", fnv1a(&arguments.join("\0")))
    }
}

/// The first 16 hexadecimal digits of the text's SHA-256.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// FNV-1a, 32 bits. Source: <http://www.isthe.com/chongo/tech/comp/fnv/>
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::by_table;
    use crate::config::{SHIPPED, read};
    use crate::mapping::Mappings;

    fn tables(text: &str) -> Vec<super::TableInterests> {
        let mut loaded = read("config.toml", text, std::iter::empty());
        let mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
        assert_eq!(loaded.faults.to_string(), "");
        by_table(&mappings.list)
    }

    #[test]
    fn a_table_has_one_set_in_whatever_order_its_mappings_stand() {
        let tables = tables(SHIPPED);
        let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
        assert_eq!(names, ["locations", "items", "sessions", "inventory_items"]);
        assert_eq!(tables[1].interests.len(), 2, "the definition, and the list that shows its names");
        assert_eq!(tables[0].interests[0].earlier_prefix(), "hearthside_84851b31");
    }

    #[test]
    fn only_what_is_shown_or_says_when_a_key_ends_counts() {
        let block = |more: &str| format!("[[caches]]\nkey = \"a:{{x}}\"\ntype = \"hash\"\ntable = \"t\"\n{more}\n");
        let counted = |more: &str| tables(&block(more))[0].interests[0].counted.clone();
        assert_eq!(counted(""), None);
        let shown = counted("fields = [\"b\", \"a\"]\noverflow = \"o\"\nexpires_column = \"e\"");
        assert_eq!(shown, Some(vec!["a".into(), "b".into(), "e".into(), "o".into()]));
    }
}
