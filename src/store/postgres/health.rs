//! Whether the server is there, and whether it takes writes: asked together, over a connection that waits for nothing.
//! A heartbeat of the change feed that has come back answers both, and while such come the server is seldom asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sqlx::Row as _;

use super::pulse::Pulse;
use crate::store::standing::{KnownStanding, Standing};
use crate::store::{Change, OnChange, StoreError};
use crate::telemetry::clock::Tick;

const ASK: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool";

/// So long a heartbeat answers, in milliseconds: a little more than lies between two.
const HEARD: u64 = 2_500;

/// The server is asked so often at least, in milliseconds: a setting may forbid writes, and heartbeats go on.
const ASKED: u64 = 10_000;

/// The connection, and what it last said.
#[derive(Debug)]
pub(super) struct Health {
    pulse: Pulse,
    pub(super) standing: Arc<KnownStanding>,
    /// Heartbeats take the same way as this connection.
    has_heartbeats: bool,
    /// When the last heartbeat that came back was sent: a [`Tick`].
    heard_at: Arc<AtomicU64>,
    /// A [`Tick`].
    asked_at: AtomicU64,
}

impl Health {
    pub(super) fn new(pulse: Pulse, standing: Standing, has_heartbeats: bool) -> Self {
        let standing = Arc::new(KnownStanding::new(standing));
        Self { pulse, standing, has_heartbeats, heard_at: Arc::default(), asked_at: AtomicU64::new(0) }
    }

    /// Notes when a heartbeat comes back.
    pub(super) fn hearing(&self, on_change: OnChange) -> OnChange {
        let heard_at = self.heard_at.clone();
        Arc::new(move |change| {
            if let Change::Alive(sent) = &change {
                heard_at.fetch_max(sent.as_ms(), Relaxed);
            }
            on_change(change);
        })
    }

    /// True while heartbeats say what the server would. A standby sends none.
    fn is_known(&self) -> bool {
        let (now, at) = (Tick::now(), |moment: &AtomicU64| Tick::from_ms(moment.load(Relaxed)));
        self.has_heartbeats
            && self.standing.get().takes_writes()
            && !self.standing.needs_another_session()
            && now.since(at(&self.heard_at)) <= HEARD
            && now.since(at(&self.asked_at)) <= ASKED
    }

    /// Asks the server, where it is not known that it is there. True when sessions that are open may refuse writes that
    /// it takes.
    pub(super) async fn ask(&self) -> Result<bool, StoreError> {
        if self.is_known() {
            return Ok(false);
        }
        if self.standing.needs_another_session() {
            self.pulse.renew().await;
        }
        let row = self.pulse.run(ASK, &[]).await?;
        self.asked_at.store(Tick::now().as_ms(), Relaxed);
        Ok(self.standing.is_now(Standing::of(row.try_get(0)?, row.try_get(1)?)))
    }

    /// The store is another server, which takes this.
    pub(super) fn moved(&self, standing: Standing) {
        self.heard_at.store(0, Relaxed);
        self.standing.is_now(standing);
        self.asked_at.store(Tick::now().as_ms(), Relaxed);
    }

    /// Gives a result back, having noted whether it says that the store takes reads only.
    pub(super) fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.standing.note(&result);
        result
    }
}
