//! The plan of a mapping that is only thought of: the store does not know it afterwards.

use super::planning::{self, Catalog};
use super::{Engine, Plan, Store, StoreError};
use crate::mapping::Mapping;

impl Store {
    /// The plan of a mapping that may never be in force.
    ///
    /// # Errors
    /// As [`Store::plan`].
    pub async fn draft(&self, mapping: &Mapping) -> Result<Plan, StoreError> {
        match &self.engine {
            Engine::Sqlite(store) => planning::plan(&Catalog::Sqlite(store.catalog().await?), mapping).await,
            Engine::Postgres(_) | Engine::Away(_) => self.plan(mapping).await,
        }
    }

    /// Forgets what was noted of a mapping while keys of its draft were loaded.
    pub fn forget_draft(&self, plan: &Plan) {
        self.bulkhead.forget(plan);
        self.shared_loads.forget(plan);
    }
}
