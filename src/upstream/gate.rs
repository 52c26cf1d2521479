//! Bounds the connections that are lent to one client each, in the whole process, and the wait for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::ConnectError;
use crate::config;
use crate::telemetry::Metrics;

/// Lets in so many, first come first served.
#[derive(Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    most: usize,
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// Counts somebody for as long as it waits.
struct Waiting<'a>(&'a Metrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pinned_waiting.dec();
    }
}

impl Gate {
    /// A gate by `upstream.pinned_max` and `upstream.pinned_timeout`.
    #[must_use]
    pub fn new(settings: &config::Upstream, metrics: Arc<Metrics>) -> Self {
        let most = settings.pinned_max.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(most)), most, patience: settings.pinned_timeout, metrics }
    }

    /// True while more than half of the connections are free: what is not necessary may have one.
    pub(super) fn is_open(&self) -> bool {
        self.permits.available_permits() * 2 > self.most
    }

    /// Comes in now or within the patience.
    ///
    /// # Errors
    /// [`ConnectError::Busy`].
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, ConnectError> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        self.metrics.pinned_waiting.inc();
        let _waiting = Waiting(&self.metrics);
        match tokio::time::timeout(self.patience, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                self.metrics.pinned_refused.inc();
                Err(ConnectError::Busy(self.most))
            }
        }
    }
}
