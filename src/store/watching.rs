//! How changes of the store are told: by which feed, and for which mappings.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt as _;

use super::{Change, Engine, FeedKind, OnChange, Store, StoreError, Taken};
use crate::mapping::Mapping;

impl Store {
    /// Gives `on_change` every change, for ever. Dropping the future stops it. A panic is a gap, and goes on to whoever
    /// runs this: begun again, it forgets first what may have been missed.
    pub async fn watch(&self, on_change: OnChange) {
        let on_change = match &self.engine {
            Engine::Postgres(store) => store.marking(on_change),
            Engine::Sqlite(_) | Engine::Away(_) => on_change,
        };
        let watching = async {
            match &self.engine {
                Engine::Postgres(store) => store.watch(&self.settings, on_change.clone()).await,
                Engine::Sqlite(store) => store.watch(&self.settings, on_change.clone()).await,
                Engine::Away(_) => std::future::pending().await,
            }
        };
        if let Err(panic) = AssertUnwindSafe(watching).catch_unwind().await {
            on_change(Change::Gap("it ended in a panic, which is a bug".into()));
            resume_unwind(panic);
        }
    }

    /// From now on changes that concern these mappings are told. Of triggers' notices all are given anyway.
    pub fn follow<'m>(&self, mappings: impl IntoIterator<Item = &'m Mapping>) {
        if let Engine::Postgres(store) = &self.engine {
            store.feeds().follow(mappings);
        }
    }

    /// How often it has been looked at what can be seen of the store: whatever was read before a look is no newer than
    /// it. Only a feed that reads rows looks.
    #[must_use]
    pub fn looks(&self) -> u64 {
        match &self.engine {
            Engine::Postgres(store) => store.feeds().looks(),
            Engine::Sqlite(_) | Engine::Away(_) => 0,
        }
    }

    /// Somebody is about to read or write a key, and may keep what comes of that: a change of it that has come, and
    /// could not be seen then, is looked for from now on.
    pub fn is_of_interest(&self, key: &[u8]) {
        if let Engine::Postgres(store) = &self.engine {
            store.feeds().is_of_interest(key);
        }
    }

    /// How changes are told, of Postgres.
    #[must_use]
    pub fn feed(&self) -> FeedKind {
        self.taken_feed().map_or(FeedKind::Notify, |taken| taken.kind)
    }

    /// The same, and why; none of SQLite, which is watched as a whole.
    #[must_use]
    pub fn taken_feed(&self) -> Option<Taken> {
        match &self.engine {
            Engine::Postgres(store) => Some(store.feeds().taken()),
            _ => None,
        }
    }

    /// Asks how the changes of these mappings can be told, where `store.feed` leaves that open. For the time before
    /// [`Store::watch`], which asks itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn choose_feed(&self, mappings: &[Mapping]) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.feeds().choose(mappings, None).await.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// What the server and the role lack for the feed that `store.feed` demands, a line each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn feed_lacks(&self) -> Result<Vec<String>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.feeds().lacks().await,
            _ => Ok(Vec::new()),
        }
    }
}
