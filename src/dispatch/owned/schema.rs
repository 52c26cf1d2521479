//! Follows the schema of the store: a mapping whose tables have changed gets another plan, and what was kept of it is
//! forgotten. One that does not fit any more fails alone, and one that cannot be looked at keeps none of the others
//! waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::cache::Cause;
use crate::dispatch::Owned;
use crate::mapping::{Kind, Mapping};
use crate::store::{CurrentPlan, Difference, StoreError};
use crate::telemetry::clock::Tick;
use crate::telemetry::joined;
use crate::telemetry::planted::{is_planted, is_planted_once};

impl Owned {
    /// Every mapping that is in the store, with its plan.
    pub fn plans(&self) -> impl Iterator<Item = &CurrentPlan> {
        self.reloader.plans().chain(self.cache.plans())
    }

    /// Compares the schema with the one that the plans were made for, and makes those again that are not of today,
    /// each in a task of its own among `tasks`: nobody waits for them. Where only the storage of a table is another
    /// one, nothing but what is kept in memory is forgotten.
    ///
    /// # Errors
    /// The store's, when the schema cannot be looked at. It is to be tried again.
    pub async fn follow_schema(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Result<(), StoreError> {
        while let Some(ended) = tasks.try_join_next() {
            joined(ended);
        }
        let plans: Vec<&CurrentPlan> = self.plans().collect();
        let mappings: Vec<&Mapping> = plans.iter().map(|plan| plan.mapping()).collect();
        let begun = Tick::now();
        let prints = self.store.fingerprints(&mappings).await?;
        for (plan, print) in plans.into_iter().zip(prints) {
            match plan.compare(&print) {
                _ if is_planted("schema-watch-ignored") => plan.fitted(begun),
                Difference::None => plan.fitted(begun),
                Difference::Storage => {
                    assert!(!is_planted_once("panic-in-rewrite"), "a planted bug");
                    self.changed_whole(plan.mapping().id, Cause::Schema);
                    // Not before: what ends in a panic is seen by the next look.
                    plan.saw(print);
                    plan.fitted(begun);
                }
                Difference::Schema if plan.is_being_made() => {}
                Difference::Schema => {
                    let (owned, mapping) = (self.clone(), plan.mapping().clone());
                    tasks.spawn(async move {
                        owned.replan(&mapping).await;
                        owned.cache.remember_columns().await;
                    });
                }
            }
        }
        Ok(())
    }

    /// Makes every plan again, whatever has changed.
    pub async fn replan_all(&self) {
        join_all(self.plans().map(|plan| self.replan(plan.mapping()))).await;
        self.cache.remember_columns().await;
    }

    async fn replan(&self, mapping: &Mapping) {
        let replanned = match mapping.kind {
            Kind::Definition => self.reloader.replan(mapping.id).await,
            Kind::Cache => self.cache.replan(mapping.id).await,
        };
        if let Err(error) = replanned {
            tracing::debug!(mapping = mapping.pattern.text(), %error, "the statements cannot be made again now");
        }
        self.show_deferring();
    }

    /// The same, and what is cached is forgotten: whoever asks for it may know of a change that no fingerprint shows,
    /// such as what a function does inside.
    pub async fn read_again(&self) {
        assert!(!is_planted_once("panic-in-reading-again"), "a planted bug");
        self.replan_all().await;
        self.metrics.invalidated("admin");
        self.plans().for_each(|plan| self.cache.flush(plan.mapping().id, Cause::Reload));
    }

    /// Asks for [`Owned::read_again`], and then for all definitions to be loaded again, in the background.
    pub fn request_reload(&self) {
        self.reload_asked.notify_one();
    }

    /// Serves such requests, for ever. One that ended in a panic is served again.
    pub async fn reload_when_asked(&self) {
        loop {
            if !self.is_reading_again.load(SeqCst) {
                self.reload_asked.notified().await;
            }
            self.is_reading_again.store(true, SeqCst);
            self.read_again().await;
            self.reloader.request_all(true);
            self.is_reading_again.store(false, SeqCst);
        }
    }

    /// The mappings that do not fit the schema, those whose definitions were never loaded, and those that may not be
    /// written or whose deferred writes are refused, each with what is wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let fault = |plan: &CurrentPlan| {
            let why = match plan.plan().err()? {
                StoreError::Faulty(why) => format!("does not fit the store's schema: {why}"),
                other => format!("has no statements yet: {other}"),
            };
            Some(format!("the mapping '{}' {why}", plan.mapping().pattern.text()))
        };
        let faults = self.plans().filter_map(fault);
        let is_faulty = |id| self.plans().any(|plan| plan.mapping().id == id && plan.plan().is_err());
        let unloaded = self.mappings.list.iter().filter(|mapping| !is_faulty(mapping.id)).filter_map(|mapping| {
            let why = self.definitions.unloaded(mapping.id)?;
            Some(format!("the definitions of '{}' have not been loaded yet: {why}", mapping.pattern.text()))
        });
        let refused = self.plans().filter_map(|plan| {
            let (_, why) = plan.unsavable().into_iter().next()?;
            Some(format!("deferred writes of the mapping '{}' are refused: {why}", plan.mapping().pattern.text()))
        });
        let unwritable = self.plans().filter_map(|plan| {
            let (_, why) = plan.unwritable().into_iter().next()?;
            Some(format!("the mapping '{}' may not be written: {why}", plan.mapping().pattern.text()))
        });
        faults.chain(unloaded).chain(refused).chain(unwritable).collect()
    }

    /// Why deferred writes of a mapping that defers some are refused, if they are: the store could not save them, or
    /// the journal does not take them.
    #[must_use]
    pub fn refuses_deferred(&self, plan: &CurrentPlan) -> Option<String> {
        if !plan.mapping().config.defers() {
            return None;
        }
        let unsavable = plan.unsavable().into_iter().next().map(|(_, why)| why);
        unsavable.or_else(|| self.cache.journal()?.takes().err().map(|error| error.to_string()))
    }

    /// The mappings whose deferred writes the journal does not take, each with the reason.
    #[must_use]
    pub fn unjournaled(&self) -> Vec<String> {
        let refused = self.plans().filter(|plan| plan.unsavable().is_empty()).filter_map(|plan| {
            let why = self.refuses_deferred(plan)?;
            Some(format!("deferred writes of the mapping '{}' are refused: {why}", plan.mapping().pattern.text()))
        });
        refused.collect()
    }

    /// Shows in the metrics which mappings fit the schema, and no others.
    pub fn show_plans(&self) {
        self.mapping_metrics.forget();
        self.plans().for_each(CurrentPlan::show);
        self.show_deferring();
    }

    /// Shows in the metrics which mappings take deferred writes, of those that have some.
    pub fn show_deferring(&self) {
        for plan in self.plans().filter(|plan| plan.mapping().config.defers()) {
            let defers = plan.plan().is_ok() && self.refuses_deferred(plan).is_none();
            self.mapping_metrics.set_defers(plan.mapping().pattern.text(), defers);
        }
    }
}
