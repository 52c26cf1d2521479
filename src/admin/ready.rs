//! What `/readyz` answers: everything that is still missing, in words.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwapOption;

use crate::dispatch::Owned;
use crate::telemetry::Metrics;

/// Filled while the sidecar starts, and asked again and again.
#[derive(Debug)]
pub struct Readiness {
    metrics: Arc<Metrics>,
    owned: ArcSwapOption<Owned>,
    draining: AtomicBool,
}

impl Readiness {
    /// Nothing is ready yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, owned: ArcSwapOption::empty(), draining: AtomicBool::new(false) }
    }

    /// Definitions are loaded; at start, and when a reload brought other mappings.
    pub fn loaded(&self, owned: Arc<Owned>) {
        self.owned.store(Some(owned));
    }

    /// The sidecar is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Definitions and cache, once there are any.
    #[must_use]
    pub fn owned(&self) -> Option<Arc<Owned>> {
        self.owned.load_full()
    }

    /// What keeps clients away; empty when nothing does.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = [
            (self.draining.load(Relaxed), "shutting down"),
            (self.owned.load().is_none(), "definitions are not loaded"),
            (self.metrics.store_up.get() == 0, "the store does not answer"),
        ];
        conditions.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why).collect()
    }
}
