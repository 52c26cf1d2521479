//! How the store would load a key: the statement with what it is bound to, and the store's own plan of it.

use super::bulkhead::Work;
use super::{Engine, Plan, Store, StoreError};

impl Plan {
    /// The statement that loads a key, and what its parameters are; nothing of a key that is not this mapping's.
    #[must_use]
    pub fn statement(&self, key: &[u8]) -> Option<(&str, Vec<String>)> {
        let values = self.values(key)?.into_iter().map(|value| String::from_utf8_lossy(value).into_owned());
        Some((&self.one, values.collect()))
    }

    /// The statement that loads every definition.
    #[must_use]
    pub fn statement_of_all(&self) -> &str {
        &self.all
    }
}

impl Store {
    /// The lines of the store's plan for loading a key. Nothing is loaded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn explain(&self, plan: &Plan, key: &[u8]) -> Result<Vec<String>, StoreError> {
        let explaining = async {
            match &self.engine {
                Engine::Postgres(store) => store.explain(plan, key).await,
                Engine::Sqlite(store) => store.explain(plan, key).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Load, StoreError::Unavailable, explaining).await
    }
}
