//! What keeps a mapping whose tables are there from being read or written: rights that the role of `store.url` lacks,
//! and what else the server says without being written to. SQLite has no roles.

use super::{Engine, Plan, Store, StoreError};

impl Store {
    /// Why a mapping could not be written although its rows can be read, with the key of its block, as far as Postgres
    /// says without being written to: a rule, for example.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn write_fault(&self, plan: &Plan) -> Result<Option<(&'static str, String)>, StoreError> {
        let Engine::Postgres(store) = &self.engine else { return Ok(None) };
        let key = if plan.mapping.config.writes_table() { "write" } else { "delete" };
        match store.rehearse(plan).await {
            Err(error) if error.keeps_from_reading() => Err(error),
            Err(error) => Ok(Some((key, error.to_string()))),
            Ok(()) => Ok(None),
        }
    }

    /// Why a mapping may not be read, with the key of its block: a right that the role of `store.url` lacks. SQLite has
    /// no roles.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn read_fault(&self, plan: &Plan) -> Result<Option<(&'static str, String)>, StoreError> {
        let Engine::Postgres(store) = &self.engine else { return Ok(None) };
        store.denied(plan).await
    }

    /// Why a mapping may not be written, with keys of its block: the rights that the role of `store.url` lacks.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub(super) async fn unwritable(&self, plan: &Plan) -> Result<Vec<(&'static str, String)>, StoreError> {
        let Engine::Postgres(store) = &self.engine else { return Ok(Vec::new()) };
        store.denied_to_write(plan).await
    }
}
