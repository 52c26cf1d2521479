//! The mappings of a configuration, checked: which keys are owned, of what shape, and from where.
//! Pure; knows patterns, never the store.

mod check;
mod modes;

use std::collections::BTreeMap;

use crate::config::{Config, Faults, MappingConfig, Shape};
use crate::keys::{Keyspace, MappingId, Pattern};
use check::check;
pub use modes::{Modes, Setting};

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
    /// Its number: its place in the list, and in the keyspace.
    pub id: MappingId,
    /// How its keys are kept.
    pub kind: Kind,
    /// Its key pattern.
    pub pattern: Pattern,
    /// The rest of its block.
    pub config: MappingConfig,
}

impl Mapping {
    /// The mapping of one block; `None` when something is wrong with it, which is noted.
    fn compile(id: MappingId, kind: Kind, block: &MappingConfig, faults: &mut Faults) -> Option<Self> {
        match Pattern::parse(&block.key) {
            Ok(pattern) => Some(Self { id, kind, pattern, config: block.clone() }).filter(|it| check(it, faults)),
            Err(error) => {
                faults.add(format!("{}.key", block.path), error.to_string());
                None
            }
        }
    }

    /// True for a cached query without `watch`: changes are seen only when its TTL is over.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.kind == Kind::Cache && self.config.query.is_some() && self.config.watch.is_empty()
    }

    /// True when EXPIRE and related commands change when a key's row expires, and not only how long memory keeps the
    /// key. `gives_value` says that the command returns the value (GETEX), which only strings have.
    #[must_use]
    pub fn expires_rows(&self, gives_value: bool) -> bool {
        self.config.expires_column.is_some() && (self.config.shape == Shape::String || !gives_value)
    }

    /// True if commands could write its keys by write = "through": each is a row, or a set, of a table.
    #[must_use]
    pub fn may_be_written(&self) -> bool {
        self.kind == Kind::Cache && self.config.table.is_some() && !self.pattern.is_one_key()
    }

    /// Every table whose changes concern it, with the column behind each placeholder, in the order of the key;
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

    /// The column behind each placeholder, its own name where `named` does not say otherwise.
    #[must_use]
    pub fn columns(&self, named: &BTreeMap<String, String>) -> Vec<String> {
        let column = |name: &str| named.get(name).map_or(name, String::as_str).to_owned();
        self.pattern.placeholders().map(|(name, _)| column(name)).collect()
    }
}

/// Every mapping, definitions first, and the keyspace they own.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    /// The mappings; a number is a place in this list.
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
            list.extend(Mapping::compile(MappingId::new(list.len()), kind, block, faults));
        }
        let keyspace = Keyspace::new(list.iter().map(|mapping| mapping.pattern.clone()).collect());
        for (first, other) in keyspace.conflicts() {
            let [first, other] = [first, other].map(|id| &list[id.index()].config);
            let message = format!("'{}' can match the same key as '{}'", other.key, first.key);
            faults.add(format!("{}.key", other.path), message);
        }
        Self { list, keyspace }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mappings};
    use crate::config::load;
    use crate::keys::MappingId;

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
        assert_eq!(mappings.keyspace.owner(b"player:7:session").map(MappingId::index), Some(2));
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
             [[caches]]\nkey = \"d:{y:int}\"\ntype = \"hash\"\ntable = \"t\"\n\
             [[caches]]\nkey = \"e:{x}\"\ntype = \"hash\"\ntable = \"t\"\nloads = 0\nload_burst = 5\n\
             [[caches]]\nkey = \"f:{x}:{y}\"\ntype = \"hash\"\ntable = \"t\"\nkey_columns = { y = \"x\" }\n",
        );
        for expected in [
            "definitions[0].table: give exactly one",
            "caches[0].key: unbalanced",
            "caches[1].value: a set shows one column",
            "caches[3].key_columns: 'z' is no placeholder",
            "caches[4].key: 'd:{y:int}' can match the same key as 'd:{x}'",
            "caches[5].loads: must be at least 1",
            "caches[5].load_burst: is what may come at once where load_rate is given",
            "caches[6].key_columns: two placeholders of 'f:{x}:{y}' are the column 'x'",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
    }
}
