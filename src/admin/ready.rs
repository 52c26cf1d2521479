//! What `/readyz` answers: everything that is still missing, in words.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::dispatch::Owned;
use crate::telemetry::Metrics;

/// Filled while the sidecar starts, and asked again and again.
#[derive(Debug)]
pub struct Readiness {
    metrics: Arc<Metrics>,
    owned: OnceLock<Arc<Owned>>,
    draining: AtomicBool,
}

impl Readiness {
    /// Nothing is ready yet.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, owned: OnceLock::new(), draining: AtomicBool::new(false) }
    }

    /// Definitions are loaded.
    pub fn loaded(&self, owned: Arc<Owned>) {
        // Set once, at start.
        let _ = self.owned.set(owned);
    }

    /// The sidecar is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Definitions and cache, once there are any.
    #[must_use]
    pub fn owned(&self) -> Option<Arc<Owned>> {
        self.owned.get().cloned()
    }

    /// What keeps clients away; empty when nothing does.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = [
            (self.draining.load(Relaxed), "shutting down"),
            (self.owned.get().is_none(), "definitions are not loaded"),
            (self.metrics.store_up.get() == 0, "the store does not answer"),
        ];
        conditions.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why).collect()
    }
}
