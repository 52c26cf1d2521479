//! The mappings of a configuration, checked: which keys are owned, of what shape, and from where.
//! Pure; knows patterns, never the store.

use std::collections::BTreeMap;

use crate::config::{Config, DeleteMode, Faults, MappingConfig, Shape, WriteMode};
use crate::keys::{Keyspace, Pattern};

/// How a mapping's keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Preloaded, all of them in memory.
    Definition,
    /// Read through, one by one.
    Cache,
}

/// One mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Its place in the list, and in the keyspace.
    pub id: usize,
    /// How its keys are kept.
    pub kind: Kind,
    /// Its key pattern.
    pub pattern: Pattern,
    /// The rest of its block.
    pub config: MappingConfig,
}

impl Mapping {
    /// True for a cached query that nobody tells of changes: they are seen when its TTL is over.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.kind == Kind::Cache && self.config.query.is_some() && self.config.watch.is_empty()
    }

    /// Every table whose changes concern it, with the column behind each hole, in the order of the holes;
    /// `None` where any change concerns the whole mapping.
    #[must_use]
    pub fn watched(&self) -> Vec<(String, Option<Vec<String>>)> {
        let own = self.config.table.iter().map(|table| (table.clone(), Some(self.columns(&self.config.key_columns))));
        let others = self
            .config
            .watch
            .iter()
            .map(|watch| (watch.table.clone(), (!watch.whole).then(|| self.columns(&watch.key))));
        own.chain(others).collect()
    }

    /// The column behind each hole, its own name where `named` does not say otherwise.
    #[must_use]
    pub fn columns(&self, named: &BTreeMap<String, String>) -> Vec<String> {
        self.pattern.holes().map(|(hole, _)| named.get(hole).map_or(hole, String::as_str).to_owned()).collect()
    }
}

/// Every mapping, definitions first, and the keyspace they own.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    /// The mappings; an id is a place in this list.
    pub list: Vec<Mapping>,
    /// Their patterns.
    pub keyspace: Keyspace,
}

impl Mappings {
    /// Checks every block of `config`; what is wrong is noted, and the faulty mapping left out.
    pub fn compile(config: &Config, faults: &mut Faults) -> Self {
        let definitions = config.definitions.iter().map(|block| (Kind::Definition, block));
        let caches = config.caches.iter().map(|block| (Kind::Cache, block));
        let mut list: Vec<Mapping> = Vec::new();
        for (kind, block) in definitions.chain(caches) {
            match Pattern::parse(&block.key) {
                Err(error) => faults.add(format!("{}.key", block.path), error.to_string()),
                Ok(pattern) => {
                    let mapping = Mapping { id: list.len(), kind, pattern, config: block.clone() };
                    if check(&mapping, faults) {
                        list.push(mapping);
                    }
                }
            }
        }
        let keyspace = Keyspace::new(list.iter().map(|mapping| mapping.pattern.clone()).collect());
        for (a, b) in keyspace.overlaps() {
            let message = format!("'{}' can match the same key as '{}'", list[b].config.key, list[a].config.key);
            faults.add(format!("{}.key", list[b].config.path), message);
        }
        Self { list, keyspace }
    }
}

/// Notes what contradicts itself in one block; true when nothing does.
fn check(mapping: &Mapping, faults: &mut Faults) -> bool {
    let block = &mapping.config;
    let mut sound = true;
    let mut require = |holds: bool, key: &str, message: String| {
        if !holds {
            sound = false;
            faults.add(format!("{}.{key}", block.path), message);
        }
    };
    let sources = [block.table.is_some(), block.query.is_some(), block.file.is_some()];
    let wanted = if mapping.kind == Kind::Definition { "table, query or file" } else { "table or query" };
    require(sources.iter().filter(|s| **s).count() == 1, "table", format!("give exactly one of {wanted}"));
    require(mapping.pattern.holes().next().is_some(), "key", "has no {hole}; a mapping owns one key per row".into());
    let one_column = matches!(block.shape, Shape::String | Shape::Set);
    require(
        !one_column || block.value.is_some() || block.file.is_some(),
        "value",
        format!("a {} shows one column: name it", block.shape.name()),
    );
    require(
        block.shape != Shape::Hash || block.value.is_none(),
        "value",
        "a hash shows columns as fields; use fields".into(),
    );
    require(
        block.shape == Shape::Hash || block.overflow.is_none(),
        "overflow",
        "only a hash has fields to overflow".into(),
    );
    require(
        block.shape != Shape::List || block.table.is_none(),
        "table",
        "a list needs an order: use query with ORDER BY".into(),
    );
    require(
        block.table.is_some() || block.overflow.is_none() || block.query.is_some(),
        "overflow",
        "is a column of a table or query".into(),
    );
    require(
        !mapping.is_blind() || block.ttl.is_some(),
        "watch",
        "a query without watch and without ttl would never change in memory: give one of them".into(),
    );
    let (takes_list, has_table) = (block.push.is_some() || block.remove.is_some(), block.table.is_some());
    let serves_stale = block.stale_while_revalidate.is_some() || block.stale_if_error.is_some();
    require(
        !serves_stale || (block.ttl.is_some() && block.expires_column.is_none()),
        "stale_while_revalidate",
        "and stale_if_error are counted from the end of a ttl; what ends by a column is never served after it".into(),
    );
    require(
        block.expires_column.is_none() || (has_table && matches!(block.shape, Shape::Hash | Shape::String)),
        "expires_column",
        "is a column of a table, for a hash or string".into(),
    );
    let defers = block.write == WriteMode::Deferred || !block.deferred.is_empty();
    require(
        !defers || (has_table && matches!(block.shape, Shape::Hash | Shape::String)),
        "deferred",
        "is for hashes and strings of a table".into(),
    );
    require(
        block.deferred.is_empty() || (block.write == WriteMode::Through && block.shape == Shape::Hash),
        "deferred",
        "names fields of a hash with write = \"through\"; write = \"deferred\" defers a whole mapping".into(),
    );
    require(
        block.write != WriteMode::Through || has_table || takes_list,
        "write",
        "\"through\" needs a table to write to, or push and remove statements of a list".into(),
    );
    require(
        !takes_list || (block.shape == Shape::List && block.write == WriteMode::Through),
        if block.push.is_some() { "push" } else { "remove" },
        "is for lists with write = \"through\"".into(),
    );
    require(
        block.delete != DeleteMode::Row || has_table,
        "delete",
        "\"row\" needs a table whose rows can be deleted".into(),
    );
    for (key, named) in
        std::iter::once(("key_columns", &block.key_columns)).chain(block.watch.iter().map(|w| ("watch", &w.key)))
    {
        for hole in named.keys() {
            let known = mapping.pattern.holes().any(|(name, _)| name == hole);
            require(known, key, format!("'{hole}' is no hole of '{}'", block.key));
        }
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mappings};
    use crate::config::load;

    fn compile(text: &str) -> (Mappings, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).expect("written");
        let mut loaded = load(Some(&file), std::iter::empty());
        let mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
        (mappings, loaded.faults.to_string())
    }

    #[test]
    fn definitions_come_first_and_watch_their_table() {
        let (mappings, faults) = compile(crate::config::SHIPPED);
        assert_eq!(faults, "");
        assert_eq!(mappings.keyspace.owner(b"player:7:session"), Some(2));
        assert_eq!(mappings.list[0].kind, Kind::Definition);
        assert_eq!(mappings.list[2].watched(), [("sessions".to_owned(), Some(vec!["character_id".to_owned()]))]);
        let inventory =
            [("inventory_items".to_owned(), Some(vec!["character_id".to_owned()])), ("items".to_owned(), None)];
        assert_eq!(mappings.list[3].watched(), inventory);
    }

    #[test]
    fn contradictions_are_told_together() {
        let (_, told) = compile(
            "[[definitions]]\nkey = \"a:{x}\"\ntype = \"hash\"\ntable = \"t\"\nfile = \"f\"\n\
             [[caches]]\nkey = \"b:{x\"\ntype = \"hash\"\ntable = \"t\"\n\
             [[caches]]\nkey = \"c:{x}\"\ntype = \"set\"\ntable = \"t\"\n\
             [[caches]]\nkey = \"d:{x}\"\ntype = \"hash\"\ntable = \"t\"\n\
             [[caches]]\nkey = \"d:{y:int}\"\ntype = \"hash\"\ntable = \"t\"\nkey_columns = { z = \"z\" }\n\
             [[caches]]\nkey = \"d:{y:int}\"\ntype = \"hash\"\ntable = \"t\"\n",
        );
        for expected in [
            "definitions[0].table: give exactly one",
            "caches[0].key: unbalanced",
            "caches[1].value: a set shows one column",
            "caches[3].key_columns: 'z' is no hole",
            "caches[4].key: 'd:{y:int}' can match the same key as 'd:{x}'",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
    }
}
