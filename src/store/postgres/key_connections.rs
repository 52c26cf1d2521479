//! Lends connections for statements about one key. A load or write borrows one that its own thread opened, if one is
//! idle, so that it crosses no threads, and gives it back without a round trip: docs/decisions/0010.
//!
//! Whoever borrows has a turn, so that there are never more of them than turns. A connection is given back only when
//! its statement has been answered: one whose borrower was cancelled is closed.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection as _};

use super::IDLE;
use crate::config;
use crate::store::StoreError;
use crate::store::fate::is_fatal;

/// One that has not been used for so long is closed when another is given back.
const UNUSED: Duration = Duration::from_mins(10);

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    generation: u64,
    opened_by: ThreadId,
    since: Instant,
}

/// The connections that are lent.
#[derive(Debug)]
pub(super) struct Lender {
    options: Mutex<PgConnectOptions>,
    /// How long a borrower waits for a new connection.
    patience: Duration,
    most: u32,
    idle: Mutex<Vec<Idle>>,
    /// Connections of an earlier one are not used any more.
    generation: AtomicU64,
}

/// A borrowed connection. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) connection: PgConnection,
    generation: u64,
    opened_by: ThreadId,
    lender: &'a Lender,
}

impl Lender {
    /// Connections are opened when they are needed.
    pub(super) fn new(options: PgConnectOptions, settings: &config::Store) -> Self {
        let (patience, most) = (settings.connect_timeout, settings.max_connections);
        Self { options: Mutex::new(options), patience, most, idle: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// The most connections that can be dead at the same time.
    pub(super) const fn most(&self) -> u32 {
        self.most
    }

    /// A connection that was alive a moment ago.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when none can be opened in time.
    pub(super) async fn lend(&self) -> Result<Lent<'_>, StoreError> {
        let lending = tokio::time::timeout(self.patience, self.take_or_open()).await;
        Ok(lending.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    async fn take_or_open(&self) -> Result<Lent<'_>, sqlx::Error> {
        while let Some(mut idle) = self.take_idle() {
            if idle.since.elapsed() < IDLE || idle.connection.ping().await.is_ok() {
                let Idle { connection, generation, opened_by, .. } = idle;
                return Ok(Lent { connection, generation, opened_by, lender: self });
            }
        }
        let generation = self.generation.load(SeqCst);
        let options = self.options().clone();
        let connection = options.connect().await?;
        Ok(Lent { connection, generation, opened_by: std::thread::current().id(), lender: self })
    }

    /// How connections are opened from now on.
    pub(super) fn set_options(&self, options: PgConnectOptions) {
        *self.options() = options;
    }

    fn options(&self) -> MutexGuard<'_, PgConnectOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are open now are closed, or will be when they are given back.
    pub(super) fn retire(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.idle().clear();
    }

    /// The one of this thread that was used last, or else of any thread.
    fn take_idle(&self) -> Option<Idle> {
        let (mut idle, here) = (self.idle(), std::thread::current().id());
        let at = idle.iter().rposition(|idle| idle.opened_by == here).or_else(|| idle.len().checked_sub(1))?;
        Some(idle.remove(at))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    /// Gives it back. Its last statement must have been answered.
    pub(super) fn give_back(self) {
        let since = Instant::now();
        let mut idle = self.lender.idle();
        idle.retain(|other| since.duration_since(other.since) < UNUSED);
        // Compared under the lock: one that is retired meanwhile is not kept.
        if self.generation == self.lender.generation.load(SeqCst) {
            let (connection, generation, opened_by) = (self.connection, self.generation, self.opened_by);
            idle.push(Idle { connection, generation, opened_by, since });
        }
    }
}

/// Gives the connection back if its statement was answered, be it with an error.
pub(super) fn answered<T>(result: Result<T, sqlx::Error>, lent: Lent<'_>) -> Result<T, sqlx::Error> {
    let answered = match &result {
        Ok(_) => true,
        Err(error @ sqlx::Error::Database(_)) => !has_died(error),
        Err(_) => false,
    };
    if answered {
        lent.give_back();
    }
    result
}

/// True when the connection is gone, as opposed to the statement being wrong or slow.
pub(super) fn has_died(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => is_fatal(error.as_ref()),
        _ => false,
    }
}
