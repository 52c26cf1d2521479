//! What the schema watch compares: of every table that a mapping names a fingerprint of its schema, and one of its
//! storage. Knows no engine.

use std::collections::BTreeSet;

use super::words::names_in;
use super::{Engine, Store, StoreError};
use crate::mapping::Mapping;

/// What an engine's catalog says of the tables of one mapping; two that are equal were taken of the same schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which tables they are, their columns, indexes, triggers, partitions and policies.
    pub(super) schema: String,
    /// Where their rows are: another place after a rewrite or TRUNCATE. In Postgres also when the catalog last changed:
    /// at another time after something that was changed back.
    pub(super) storage: String,
}

/// How two fingerprints differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// The rows may be others, and nothing else.
    Storage,
    /// Statements may have to be made again.
    Schema,
}

impl Fingerprint {
    /// How a later one differs.
    #[must_use]
    pub fn compare(&self, now: &Self) -> Difference {
        match () {
            () if self.schema != now.schema => Difference::Schema,
            () if self.storage != now.storage => Difference::Storage,
            () => Difference::None,
        }
    }
}

/// Where deferred writes are noted.
const NOTES: [&str; 2] = ["hearthside.flushed", "hearthside.journals"];

/// The names by which a mapping's tables can be found: those of its block, every word of its SQL that may be one, and
/// the tables of notes where it defers writes.
pub(super) fn names(mapping: &Mapping) -> BTreeSet<String> {
    let block = &mapping.config;
    let watched = mapping.watched().into_iter().map(|(table, _)| table);
    let sql = [&block.query, &block.push, &block.remove].into_iter().flatten();
    let notes = NOTES.iter().filter(|_| block.defers()).map(|&name| name.to_owned());
    watched.chain(sql.flat_map(|sql| names_in(sql))).chain(notes).collect()
}

impl Store {
    /// The fingerprints of the tables of each of these mappings. No table's lock is waited for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fingerprints(&self, mappings: &[&Mapping]) -> Result<Vec<Fingerprint>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.fingerprints(mappings).await,
            Engine::Sqlite(store) => Ok(vec![store.fingerprint().await?; mappings.len()]),
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// From now on no statement that was prepared before is used: connections of before are closed when they are free.
    pub fn retire_connections(&self) {
        match &self.engine {
            Engine::Postgres(store) => store.retire_connections(),
            Engine::Sqlite(store) => store.retire_connections(),
            Engine::Away(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Executor as _};

    use super::{Difference, Fingerprint};
    use crate::config::{self, Config, Faults, read};
    use crate::mapping::Mappings;
    use crate::store::{CurrentPlan, Store};
    use crate::telemetry::Metrics;

    #[test]
    fn a_rewrite_is_no_change_of_the_schema() {
        let print = |schema: &str, storage: &str| Fingerprint { schema: schema.into(), storage: storage.into() };
        assert_eq!(print("a", "1").compare(&print("a", "1")), Difference::None);
        assert_eq!(print("a", "1").compare(&print("a", "2")), Difference::Storage);
        assert_eq!(print("a", "1").compare(&print("b", "2")), Difference::Schema);
    }

    #[tokio::test]
    async fn a_plan_that_could_not_be_made_again_when_that_was_asked_for_is_looked_at_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, away) = (folder.path().join("a.db"), folder.path().join("away.db"));
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut connection = options.connect().await.expect("opened");
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT)").await.expect("made");
        let block = "[[caches]]\nkey = \"a:{id}\"\ntype = \"hash\"\ntable = \"a\"\n";
        let config: Config = read("test", block, std::iter::empty()).config;
        let mapping = &Mappings::compile(&config, &mut Faults::default()).list[0];
        let settings = config::Store { url: format!("sqlite://{}", file.display()), ..config::Store::default() };
        let store = Store::connect(&settings).await.expect("it is there");
        let plan = CurrentPlan::of(&store, mapping, Arc::new(Metrics::default()).mappings.clone()).await.expect("made");
        let print = store.fingerprints(&[mapping]).await.expect("asked").remove(0);
        assert_eq!(plan.compare(&print), Difference::None);
        std::fs::rename(&file, &away).expect("moved");
        assert!(plan.replan(&store, || {}).await.is_err());
        std::fs::rename(&away, &file).expect("moved back");
        assert_eq!(plan.compare(&print), Difference::Schema, "it is made again");
        assert!(plan.replan(&store, || {}).await.is_ok());
        assert_eq!(plan.compare(&print), Difference::None);
    }
}
