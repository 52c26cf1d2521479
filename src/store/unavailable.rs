//! The store of a sidecar that has started while its database cannot be reached. It answers everything with the
//! reason, which changes as attempts to connect go on.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::StoreError;

/// Why the store cannot be asked yet.
#[derive(Debug)]
pub struct Unavailable(ArcSwap<String>);

impl Unavailable {
    /// The first reason.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self(ArcSwap::from_pointee(why.into()))
    }

    /// The reason of the moment.
    pub fn say(&self, why: impl Into<String>) {
        self.0.store(Arc::new(why.into()));
    }

    /// The latest reason, and what to do.
    #[must_use]
    pub fn why(&self) -> Arc<String> {
        self.0.load_full()
    }

    pub(super) fn error(&self) -> StoreError {
        StoreError::Loading(self.why().as_ref().clone())
    }
}
