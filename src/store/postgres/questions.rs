//! Connections for short questions, which somebody may ask who holds a connection of another kind: about a refusal, how
//! a key is spelled, the notes of journals. Those who ask wait for each other, in the order in which they came; that is
//! our own queue and overload, and never a store that does not answer.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::pool::Connections;
use crate::store::StoreError;

/// So many are asked at once.
pub(super) const MOST: u32 = 2;

/// The connections, and the turns of those who ask. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    connections: Connections,
    turns: Arc<Semaphore>,
    patience: Duration,
}

/// Somebody whose turn it is to ask one question after the other. Nobody waits for a second turn meanwhile.
pub(super) struct Asking<'q> {
    pool: PgPool,
    _turn: SemaphorePermit<'q>,
}

impl Asking<'_> {
    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Questions {
    /// Over a pool of [`MOST`] connections; a turn is waited for so long.
    pub(super) fn new(connections: Connections, patience: Duration) -> Self {
        Self { connections, turns: Arc::new(Semaphore::new(MOST as usize)), patience }
    }

    /// Waits for a turn to ask.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when it does not come in time.
    pub(super) async fn turn(&self) -> Result<Asking<'_>, StoreError> {
        let overloaded = || StoreError::Overloaded("too many questions about keys and refusals wait".into());
        let turn = tokio::time::timeout(self.patience, self.turns.acquire()).await.map_err(|_| overloaded())?;
        Ok(Asking { pool: self.connections.pool(), _turn: turn.map_err(|_| overloaded())? })
    }

    /// The connections, for what is done while nobody is served.
    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }
}
