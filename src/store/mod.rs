//! The store: Postgres or SQLite behind owned keys. Turns a mapping into statements, rows into records,
//! and changes of the database into notices. Values are always bound, never spliced into SQL.
//! Knows nothing of caches: who asks for a record decides what becomes of it.

mod adopt;
mod breaker;
mod bulkhead;
mod catalog;
mod change;
mod current_plan;
mod denied;
mod dialect;
mod draft;
mod dropped;
mod error;
mod explain;
mod fate;
pub mod file;
mod flush;
mod gather;
mod json;
mod key_line;
mod listing;
mod loading;
mod log_form;
mod logged;
mod migrate;
mod moves;
mod plan;
mod plan_log;
mod planning;
mod postgres;
pub mod publication;
mod replica_reads;
mod retirement;
mod row;
mod saved_columns;
mod schema;
mod shape;
mod shared_loads;
mod sqlite;
mod standing;
mod sweep;
mod tables;
mod transaction;
pub mod triggers;
mod turns;
mod unavailable;
mod urgency;
mod watching;
mod word;
mod words;

pub use adopt::{Adopted, Foreign, Inserted};
pub use change::{Change, Coming, MOST_KEYS, OnChange};
pub use current_plan::CurrentPlan;
pub use error::StoreError;
pub use flush::{ALL, Fence, FlushRow, Flushed, Mark, Note, Raised};
pub use listing::Listed;
pub use logged::{Look, RowChange};
pub use plan::Plan;
pub use postgres::{FeedKind, Taken};
pub use replica_reads::ReplicaReads;
pub use schema::{Difference, Fingerprint};
pub use standing::Standing;
pub use sweep::{Chosen, RowKey};
pub use tables::TableFacts;
pub use transaction::StoreTransaction;
pub use unavailable::Unavailable;
pub use urgency::Urgency;
pub use word::{Place, Word};

use bulkhead::{Bulkhead, Work};
use gather::Gather;
use moves::Moves;
use planning::Catalog;
use postgres::Postgres;
use shared_loads::SharedLoads;
use sqlite::Sqlite;
use word::Words;

use std::sync::Arc;

use crate::config;
use crate::mapping::Mapping;
use crate::record::{RowEdit, Table, Written};
use crate::telemetry::Progress;
use crate::telemetry::metrics::StoreMetrics;

/// Whoever waits for a preload is shown how many rows it has come to, so many at a time.
const SHOWN: u64 = 1000;

#[derive(Debug)]
enum Engine {
    Postgres(Box<Postgres>),
    Sqlite(Box<Sqlite>),
    /// None yet.
    Away(Arc<Unavailable>),
}

/// A store that answers; or one that is not there yet, which answers with the reason.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    bulkhead: Bulkhead,
    shared_loads: Arc<SharedLoads>,
    /// Held by the load of SQLite that nobody waits for.
    background: tokio::sync::Mutex<()>,
    settings: config::Store,
    /// What was asked of all sidecars here.
    words: Words,
}

impl Store {
    fn of(engine: Engine, settings: &config::Store) -> Self {
        let moves = match &engine {
            Engine::Postgres(store) => store.moves().clone(),
            Engine::Sqlite(_) | Engine::Away(_) => Moves::default(),
        };
        let (bulkhead, shared_loads) = (Bulkhead::new(settings, moves), Arc::default());
        let (background, settings, words) = (tokio::sync::Mutex::default(), settings.clone(), Words::default());
        Self { engine, bulkhead, shared_loads, background, settings, words }
    }

    /// Connects, and proves it with one round trip. The file of the default `store.url` is created with the demo world
    /// if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not answer in time; trying again later is safe.
    /// [`StoreError::Refused`] when `store.url` leads to no database.
    pub async fn connect(settings: &config::Store) -> Result<Self, StoreError> {
        let engine = if settings.url.starts_with("sqlite:") {
            Engine::Sqlite(Box::new(Sqlite::open(settings).await?))
        } else {
            Engine::Postgres(Box::new(Postgres::connect(settings).await?))
        };
        Ok(Self::of(engine, settings))
    }

    /// Shows from now on how many statements are under way and wait.
    pub fn count_with(&self, metrics: &StoreMetrics) {
        self.bulkhead.count_with(metrics);
    }

    /// Whether `store.url` and what belongs to it can be read. Nobody is asked.
    ///
    /// # Errors
    /// The setting, and what is wrong with it; never the password.
    pub fn is_readable(settings: &config::Store) -> Result<(), (&'static str, String)> {
        let read = match settings.url.starts_with("sqlite:") {
            true if !settings.read_url.is_empty() => {
                Err(("store.read_url", StoreError::Refused("SQLite has no standbys".into())))
            }
            true => sqlite::check_url(&settings.url).map_err(|error| ("store.url", error)),
            false => postgres::check_url(settings),
        };
        read.map_err(|(setting, error)| match error {
            StoreError::Refused(text) => (setting, text),
            error => (setting, error.to_string()),
        })
    }

    /// A store to check mappings against, without creating anything: a database in memory stands in for an SQLite file
    /// that a start would make.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_to_check(settings: &config::Store) -> Result<Self, StoreError> {
        if settings.url.starts_with("sqlite:") && sqlite::is_to_be_made(settings) {
            let engine = Engine::Sqlite(Box::new(Sqlite::stand_in(settings).await?));
            return Ok(Self::of(engine, settings));
        }
        Self::connect(settings).await
    }

    /// A store to be migrated: an SQLite file that does not exist is made, without tables.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_to_migrate(settings: &config::Store) -> Result<Self, StoreError> {
        if settings.url.starts_with("sqlite:") {
            Sqlite::make_empty(settings).await?;
        }
        Self::connect(settings).await
    }

    /// What stands in for a store that does not answer yet: everything is [`StoreError::Loading`].
    #[must_use]
    pub fn away(settings: &config::Store, away: Arc<Unavailable>) -> Self {
        Self::of(Engine::Away(away), settings)
    }

    /// What the store is, for logs: never its password.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.engine {
            Engine::Postgres(_) => "Postgres",
            Engine::Sqlite(_) => "SQLite",
            Engine::Away(_) => "none yet",
        }
    }

    /// The same as traces have it.
    #[must_use]
    pub const fn system(&self) -> &'static str {
        match self.engine {
            Engine::Postgres(_) => "postgresql",
            Engine::Sqlite(_) => "sqlite",
            Engine::Away(_) => "other_sql",
        }
    }

    /// What it takes, as far as that was known at the last [`Store::ping`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.engine {
            Engine::Postgres(store) => store.standing(),
            Engine::Sqlite(_) | Engine::Away(_) => Standing::Writable,
        }
    }

    /// How loads from hot standbys go; none where `store.read_url` names none.
    #[must_use]
    pub fn replica_reads(&self) -> Option<ReplicaReads> {
        match &self.engine {
            Engine::Postgres(store) => store.replica_reads(),
            Engine::Sqlite(_) | Engine::Away(_) => None,
        }
    }

    /// How many statements of different mappings it takes at once.
    #[must_use]
    pub const fn most_at_once(&self) -> usize {
        self.settings.max_connections as usize
    }

    /// Asks something of every other sidecar that hears this store's feed. False where a feed carries no words.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn say(&self, word: &Word) -> Result<bool, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => {
                let saying = tokio::time::timeout(self.settings.query_timeout, store.say(self.words.say(word)?));
                let silent = |_| StoreError::Unavailable("it does not answer in time".into());
                let said = saying.await.map_err(silent).flatten();
                said.inspect_err(|_| self.words.is_unsaid(word)).map(|()| true)
            }
            Engine::Sqlite(_) | Engine::Away(_) => Ok(false),
        }
    }

    /// What another sidecar asks of all, in a [`Change::Word`], and where that stands among all words.
    #[must_use]
    pub fn hear(&self, word: &str) -> Option<(Word, Place)> {
        self.words.hear(word)
    }

    /// True when this sidecar has said something of the mode of a mapping since a word that was heard.
    #[must_use]
    pub fn is_outdated(&self, pattern: &str, place: Place) -> bool {
        self.words.is_outdated(Some(pattern), place)
    }

    /// One round trip.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.ping().await,
            Engine::Sqlite(store) => store.ping().await,
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// The statements of one mapping; checked against the store's tables and columns.
    ///
    /// # Errors
    /// [`StoreError::Faults`] lists everything that does not fit.
    pub async fn plan(&self, mapping: &Mapping) -> Result<Plan, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => {
                let planning = async { planning::plan(&Catalog::Postgres(store.catalog().await?), mapping).await };
                self.bulkhead.unless_left(planning).await
            }
            Engine::Sqlite(store) => {
                let plan = planning::plan(&Catalog::Sqlite(store.catalog().await?), mapping).await?;
                store.follow(&plan).await?;
                Ok(plan)
            }
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// Writes one key. `origin` comes back with the notices of what it changed.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Ambiguous`] it may have been applied, after the others it was not.
    pub async fn write(&self, plan: &Plan, key: &[u8], edit: RowEdit<'_>, origin: &str) -> Result<Written, StoreError> {
        let writing = async {
            match &self.engine {
                Engine::Postgres(store) => store.write(plan, key, edit, origin).await,
                Engine::Sqlite(store) => store.write(plan, key, edit, origin).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Write, StoreError::Ambiguous, writing).await
    }

    /// Loads every definition of a mapping.
    ///
    /// # Errors
    /// [`StoreError`]; a row without a usable key, or two rows with one key, fail the whole load.
    pub async fn load_all(&self, plan: &Plan) -> Result<Table, StoreError> {
        let _turn = self.bulkhead.turn(plan, Work::Listing).await?;
        let (mut gather, mut rows) = (Gather::new(plan), 0_u64);
        let progress = Progress::begin(plan.mapping.pattern.text());
        let add = |row| {
            rows += 1;
            if rows.is_multiple_of(SHOWN) {
                progress.advance(SHOWN, || "rows of definitions are being loaded".to_owned());
            }
            gather.add(row)
        };
        let reading = async {
            match &self.engine {
                Engine::Postgres(store) => store.each_row(plan, add).await,
                Engine::Sqlite(store) => store.each_row(plan, add).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.unless_left(reading).await?;
        gather.finish()
    }

    /// The triggers of `mapping` that are missing or switched off, as `table (trigger)`; or what keeps its changes from
    /// being told by [`Store::feed`] otherwise. SQLite needs none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_triggers(&self, mapping: &Mapping) -> Result<Vec<String>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.missing_triggers(mapping).await,
            Engine::Sqlite(_) => Ok(Vec::new()),
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// What an operator should know of the encoding of the store's texts. That of SQLite is UTF-8.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn encoding_doubt(&self) -> Result<Option<String>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.encoding_doubt().await,
            Engine::Sqlite(_) => Ok(None),
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// Applies the migrations; with `demo`, the demo world too, unless its tables hold rows already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn migrate(&self, demo: bool) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(store) => {
                migrate::postgres(&store.direct(), demo, triggers::means(self.settings.feed)).await
            }
            Engine::Sqlite(store) => migrate::sqlite(&store.pool().await?, demo).await,
            Engine::Away(away) => Err(away.error()),
        }
    }
}
