//! Bounds the number of connections that are lent to one client each, in the whole process, and the wait for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::error::ConnectError;
use crate::config;
use crate::telemetry::metrics::PinnedMetrics;

/// How long somebody may still wait when the sidecar is shutting down.
const MOMENT: Duration = Duration::from_millis(500);

/// Lets in so many, first come first served.
#[derive(Debug)]
pub(crate) struct Permits {
    permits: Arc<Semaphore>,
    /// Places for those that are idle.
    places: Arc<Semaphore>,
    most: usize,
    patience: Duration,
    closing: CancellationToken,
    metrics: Arc<PinnedMetrics>,
}

/// Bounds how many connections to one server are being opened: a server that does not answer takes no more than a part
/// of what there is for all of them.
#[derive(Debug)]
pub(crate) struct Openings(Semaphore);

impl Openings {
    /// A quarter of `upstream.pinned_max` at a time.
    #[must_use]
    pub(super) fn new(settings: &config::Upstream) -> Self {
        Self(Semaphore::new((settings.pinned_max / 4).clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// One may be opened, if so now.
    pub(crate) fn try_enter(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }

    /// Waits until one may be opened.
    pub(crate) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }
}

/// Counts somebody for as long as it waits.
struct Waiting<'a>(&'a PinnedMetrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.dec();
    }
}

impl Permits {
    /// A gate by `upstream.pinned_max` and `upstream.pinned_timeout`.
    #[must_use]
    pub(super) fn new(settings: &config::Upstream, metrics: Arc<PinnedMetrics>) -> Self {
        let most = settings.pinned_max.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(settings.pinned_idle_total.min(Semaphore::MAX_PERMITS)));
        Self {
            permits: Arc::new(Semaphore::new(most)),
            places,
            most,
            patience: settings.pinned_timeout,
            closing: CancellationToken::new(),
            metrics,
        }
    }

    /// A place for one that is idle (`upstream.pinned_idle_total`), if there is one.
    pub(crate) fn keep(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Lets in what is not necessary.
    pub(crate) fn enter_if_open(&self) -> Option<OwnedSemaphorePermit> {
        self.is_open().then(|| self.permits.clone().try_acquire_owned().ok()).flatten()
    }

    /// True while more than half of the connections are free: what is not necessary may have one.
    pub(crate) fn is_open(&self) -> bool {
        self.permits.available_permits() * 2 > self.most
    }

    /// The sidecar is shutting down: who has waited for a moment waits no more.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// True when nothing that is held back will go on.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits for [`Permits::close`].
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// A moment after [`Permits::close`], in which what can be had is had.
    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
        tokio::time::sleep(MOMENT).await;
    }

    /// Comes in now or within the patience.
    ///
    /// # Errors
    /// [`ConnectError::Busy`], [`ConnectError::Closing`].
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, ConnectError> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        self.metrics.waiting.inc();
        let _waiting = Waiting(&self.metrics);
        let entered = tokio::select! {
            entered = tokio::time::timeout(self.patience, self.permits.clone().acquire_owned()) => entered,
            () = self.closed() => return Err(ConnectError::Closing),
        };
        match entered {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                self.metrics.refused.inc();
                Err(ConnectError::Busy(self.most))
            }
        }
    }
}
