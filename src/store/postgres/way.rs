//! How the server of now is reached, for whoever opens connections for as long as the sidecar lives. Knows no
//! statement.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::postgres::PgConnectOptions;

/// It. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Way(Arc<ArcSwap<PgConnectOptions>>);

impl Way {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(options)))
    }

    /// What a connection is opened with. Whoever keeps the connection keeps this beside it.
    pub(super) fn get(&self) -> Arc<PgConnectOptions> {
        self.0.load_full()
    }

    /// Another server is reached from now on.
    pub(super) fn lead_to(&self, options: PgConnectOptions) {
        self.0.store(Arc::new(options));
    }

    /// Whether a connection that was opened with these leads to the server of now.
    pub(super) fn is_by(&self, options: &Arc<PgConnectOptions>) -> bool {
        Arc::ptr_eq(&self.0.load(), options)
    }
}
