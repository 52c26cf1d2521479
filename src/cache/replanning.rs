//! Statements go with a plan that is taken once. When the schema has changed, the mapping's plan is replaced, and what
//! was kept by the one before is forgotten.
//!
//! Invariants:
//! - a plan is replaced first, then the mapping's epoch is raised, and then the schema is noted that it was made for:
//!   whoever reads the epoch before the plan keeps nothing of an old plan under a new epoch, and what ends in a panic
//!   is done again;
//! - a statement is sent once more only after the store has refused it as one that does not fit its schema: nothing of
//!   it was applied.

use std::sync::Arc;

use super::source::{Cached, Source};
use super::{Cache, Cause};
use crate::keys::MappingId;
use crate::store::{CurrentPlan, Plan, Store, StoreError};

impl Cache {
    /// The cached mappings with their plans.
    pub fn plans(&self) -> impl Iterator<Item = &CurrentPlan> {
        self.memory.source.all().map(|cached| &cached.current)
    }

    /// Makes the plan of mapping `id` again, because the schema has changed or may have; what was kept by the plan
    /// before is forgotten.
    ///
    /// # Errors
    /// The store's, when it does not answer.
    pub async fn replan(&self, id: MappingId) -> Result<(), StoreError> {
        match self.memory.source.cached(id) {
            Some(cached) => {
                let forget = || {
                    cached.raise_epoch(Cause::Schema);
                    self.memory.misses_events();
                };
                cached.current.replan(&self.memory.source.store, forget).await
            }
            None => Ok(()),
        }
    }
}

impl Cached {
    /// Makes the plan again after statements of `failed` did not fit the schema; what was kept by the plan before is
    /// forgotten. True when another attempt is worth while: nothing is forgotten where only its connections are others.
    ///
    /// # Errors
    /// The store's, when it does not answer.
    pub(super) async fn replan_after(&self, store: &Store, failed: &Arc<Plan>) -> Result<bool, StoreError> {
        self.current.replan_after(store, failed, || self.raise_epoch(Cause::Schema)).await
    }
}

impl Source {
    /// Runs a statement with the mapping's plan, and once more with another one if the store says that the first does
    /// not fit its schema.
    ///
    /// # Errors
    /// Those of `run`; [`StoreError::Faulty`] while the mapping has no plan.
    pub(super) async fn with_plan<T, Running>(
        &self,
        cached: &Cached,
        run: impl Fn(Arc<Plan>) -> Running,
    ) -> Result<T, StoreError>
    where
        Running: Future<Output = Result<T, StoreError>>,
    {
        let plan = cached.current.plan()?;
        match run(plan.clone()).await {
            Err(error @ StoreError::Schema(_)) => match cached.replan_after(&self.store, &plan).await {
                Ok(true) => run(cached.current.plan()?).await,
                Ok(false) | Err(_) => Err(error),
            },
            other => other,
        }
    }
}
