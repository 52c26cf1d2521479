//! Whether the server is there, and whether it takes writes: asked together, over a connection that waits for nothing.

use std::sync::Arc;

use sqlx::Row as _;

use super::pulse::Pulse;
use crate::store::StoreError;
use crate::store::standing::{KnownStanding, Standing};

const ASK: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool";

/// The connection, and what it last said.
#[derive(Debug)]
pub(super) struct Health {
    pulse: Pulse,
    pub(super) standing: Arc<KnownStanding>,
}

impl Health {
    pub(super) fn new(pulse: Pulse, standing: Standing) -> Self {
        Self { pulse, standing: Arc::new(KnownStanding::new(standing)) }
    }

    /// Asks the server. True when sessions that are open may refuse writes that it takes.
    pub(super) async fn ask(&self) -> Result<bool, StoreError> {
        if self.standing.needs_another_session() {
            self.pulse.renew().await;
        }
        let row = self.pulse.run(ASK, &[]).await?;
        Ok(self.standing.is_now(Standing::of(row.try_get(0)?, row.try_get(1)?)))
    }

    /// Gives a result back, having noted whether it says that the store takes reads only.
    pub(super) fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.standing.note(&result);
        result
    }
}
