//! The change triggers of Postgres: what each mapping wants to be told of a table (`interest`), the function that tells
//! it (`function`, `single` for one row), the script that makes both (`script`), what the names in it mean (`names`),
//! what of it is there (`present`), and what the command `hearthside triggers` does about it (`install`, `clean`), with
//! locks that nobody waits for long (`locked`), or what whoever may not do it is told (`advice`). It is told by one of
//! two `means`: by notices, or by the `outbox` (`telling`).
//!
//! A table has one function, whatever the number of mappings over it. It is named after a digest of its own text, so
//! that another text is another function: sets of triggers for different configurations, or versions, stand beside each
//! other, and each sidecar is told what it needs while they are replaced.
//!
//! Invariants:
//! - whatever goes wrong in a trigger, the statement that fired it does not fail: it is told as the whole mapping;
//! - making triggers never makes a reader wait, and a writer no longer than the lock timeout.

mod advice;
mod clean;
mod function;
mod install;
mod interest;
mod lack;
mod locked;
mod means;
mod names;
mod outbox;
mod present;
mod rights;
mod script;
mod single;
mod statement;
mod telling;

use std::time::Duration;

pub(super) use function::constant;
pub use install::Report;
pub(super) use install::install;
pub(super) use interest::{Interest, KeyParts, TableInterests, by_table};
pub use lack::Lack;
pub(super) use lack::note as note_lack;
pub(super) use locked::run as run_locked;
pub(super) use means::Means;
use names::Names;
pub(super) use outbox::{doubts as doubts_of_outbox, install as install_outbox, lacks as lacks_of_outbox};
pub(super) use present::{missing, missing_of};
pub(super) use rights::{denied, denied_to_write, lacking_for_notes, lacking_on};
pub(super) use telling::READS;

use super::{Engine, FeedKind, Store, StoreError};
use crate::config;
use crate::mapping::Mapping;

/// The SQL that makes the triggers of these mappings. The store is asked what their names mean; where it does not
/// answer, they stand as in the configuration, and the text says so.
pub async fn script(settings: &config::Store, mappings: &[Mapping]) -> String {
    let names = match settings.url.starts_with("sqlite:") {
        true => Err(StoreError::Unavailable("store.url is SQLite".into())),
        false => asked(settings, mappings).await,
    };
    let names = names.unwrap_or_else(|error| Names::Unasked(error.to_string()));
    script::script(mappings, &names, means(settings.feed))
}

async fn asked(settings: &config::Store, mappings: &[Mapping]) -> Result<Names, StoreError> {
    Names::of(&Store::connect(settings).await?.with_triggers()?, mappings).await
}

/// By what triggers tell where this feed takes what they do.
pub(super) fn means(feed: config::Feed) -> Means {
    if feed == config::Feed::Outbox { Means::Outbox } else { Means::Notices }
}

impl Store {
    /// Makes the change triggers that these mappings lack, or the publication where it takes their place.
    /// `patience` is how long one attempt waits for a table's lock.
    ///
    /// # Errors
    /// [`StoreError`]; what concerns one table is in the report.
    pub async fn install_triggers(&self, mappings: &[Mapping], patience: Duration) -> Result<Report, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.feeds().install(mappings, patience).await,
            _ => install::install(&self.with_triggers()?, mappings, Means::Notices, patience).await,
        }
    }

    /// Drops the change triggers that serve none of these mappings, and functions that nothing calls.
    ///
    /// # Errors
    /// As [`Store::install_triggers`].
    pub async fn prune_triggers(&self, mappings: &[Mapping], patience: Duration) -> Result<Report, StoreError> {
        clean::prune(&self.with_triggers()?, mappings, means(self.settings.feed), patience).await
    }

    /// Drops all change triggers, and their functions.
    ///
    /// # Errors
    /// As [`Store::install_triggers`].
    pub async fn remove_triggers(&self, patience: Duration) -> Result<Report, StoreError> {
        clean::remove(&self.with_triggers()?, patience).await
    }

    /// The SQL that makes the change triggers of these mappings, or the publication where it takes their place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trigger_script(&self, mappings: &[Mapping]) -> Result<String, StoreError> {
        if self.taken_feed().is_some_and(|taken| taken.kind == FeedKind::Replication) {
            return Ok(super::publication::script(mappings, &self.settings.publication));
        }
        let names = Names::of(&self.with_triggers()?, mappings).await?;
        Ok(script::script(mappings, &names, means(self.settings.feed)))
    }

    /// The statements that give a role what these mappings need.
    ///
    /// # Errors
    /// [`StoreError`]; the role of `store.url` must have these rights itself.
    pub async fn grants(&self, mappings: &[Mapping], role: &str) -> Result<String, StoreError> {
        let (pool, means) = (self.with_triggers()?, means(self.settings.feed));
        let mut grants = rights::grants(&pool, mappings, role).await?;
        if means == Means::Outbox {
            grants.push_str(&outbox::grants(&pool, role).await?);
        }
        Ok(grants)
    }

    /// What the role of `store.url` lacks for these mappings, a line for each table. SQLite has no roles.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lacking_rights(&self, mappings: &[Mapping]) -> Result<Vec<Lack>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => rights::lacking(&store.direct(), mappings).await,
            _ => Ok(Vec::new()),
        }
    }

    /// The tables whose changes are not told to these mappings, a line for each, with what to do. SQLite has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lacking_triggers(&self, mappings: &[&Mapping]) -> Result<Vec<Lack>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.feeds().missing_of(mappings).await,
            _ => Ok(Vec::new()),
        }
    }

    /// What an operator should know about change triggers, a line each: those that [`Store::prune_triggers`] would
    /// drop, and what they make impossible for who writes; or about what takes their place. SQLite has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trigger_doubts(&self, mappings: &[Mapping]) -> Result<Vec<String>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => {
                let mut doubts = store.feeds().doubts().await?;
                if let Some(replicas) = store.replicas() {
                    doubts.extend(replicas.doubt().await);
                }
                if store.feeds().kind() != FeedKind::Replication {
                    let means = means(self.settings.feed);
                    doubts.extend(clean::doubts(&store.direct(), mappings, means).await?);
                }
                Ok(doubts)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn with_triggers(&self) -> Result<sqlx::PgPool, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => Ok(store.direct()),
            Engine::Away(away) => Err(away.error()),
            Engine::Sqlite(_) => {
                Err(StoreError::Refused("SQLite needs no triggers: its file is watched as a whole".into()))
            }
        }
    }
}
