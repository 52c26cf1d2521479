//! Connections over which mappings are planned. To prepare a statement takes a lock of each of its tables: that is
//! waited for only shortly, and apart from every other statement, so that a table which somebody has locked holds up
//! nothing but its own mapping's plan, which is made later. Knows no catalog.

use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::pool::Connections;
use crate::store::StoreError;

/// So many plans are made at once.
pub(super) const MOST: u32 = 4;

/// How long the lock of a table is waited for.
const LOCK_TIMEOUT: &str = "200ms";

/// The connections, and the turns of those who use them: a plan uses one connection at a time.
#[derive(Debug)]
pub(super) struct Planners {
    connections: Connections,
    turns: Semaphore,
}

impl Planners {
    /// Over a pool of [`MOST`] connections.
    pub(super) const fn new(connections: Connections) -> Self {
        Self { connections, turns: Semaphore::const_new(MOST as usize) }
    }

    /// The turn to make a plan; those who wait are served in the order they came.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store is closed.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.turns.acquire().await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }
}

/// The same server, in sessions that wait for no lock for long.
pub(super) fn impatient(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("lock_timeout", LOCK_TIMEOUT)])
}
