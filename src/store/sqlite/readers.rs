//! The connections that read: a pool that can be closed as a whole, and opened again.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::removed_log;
use crate::config;
use crate::store::StoreError;
use crate::store::retirement::Retirement;

/// How such a pool is opened.
#[derive(Clone, Debug)]
pub(super) struct Pooling {
    options: SqliteConnectOptions,
    most: u32,
    timeout: Duration,
    /// Connections that were opened before are not used any more.
    retirement: Retirement,
}

impl Pooling {
    pub(super) fn new(options: &SqliteConnectOptions, settings: &config::Store) -> Self {
        let (most, timeout) = (settings.max_connections, settings.connect_timeout);
        Self { options: options.clone(), most, timeout, retirement: Retirement::default() }
    }

    pub(super) async fn open(&self) -> Result<SqlitePool, StoreError> {
        let retirement = self.retirement.clone();
        let pool = SqlitePoolOptions::new()
            .max_connections(self.most)
            .acquire_timeout(self.timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .before_acquire(move |_, meta| {
                let is_retired = retirement.concerns(meta.age);
                Box::pin(async move { Ok(!is_retired) })
            });
        Ok(pool.connect_with(self.options.clone()).await?)
    }
}

/// A pool; none while the file may not be opened.
#[derive(Debug)]
pub(super) struct Readers {
    pooling: Pooling,
    pool: RwLock<Option<SqlitePool>>,
}

impl Readers {
    pub(super) async fn open(pooling: Pooling) -> Result<Self, StoreError> {
        let pool = RwLock::new(Some(pooling.open().await?));
        Ok(Self { pooling, pool })
    }

    /// The pool. While it is closed and opened again this waits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: there is none, because the file may not be opened.
    pub(super) async fn pool(&self) -> Result<SqlitePool, StoreError> {
        self.pool.read().await.clone().ok_or_else(removed_log::must_wait)
    }

    /// Opens the file again, if it is closed.
    pub(super) async fn open_again(&self) -> Result<(), StoreError> {
        if self.pool.read().await.is_some() {
            return Ok(());
        }
        self.lock().await.open().await
    }

    /// Keeps everybody else from the pool.
    pub(super) async fn lock(&self) -> LockedReaders<'_> {
        LockedReaders { pooling: &self.pooling, pool: self.pool.write().await }
    }

    /// Connections that are open now are closed when they are free.
    pub(super) fn retire(&self) {
        self.pooling.retirement.retire_all();
    }
}

/// The pool, from which everybody else is kept.
#[derive(Debug)]
pub(super) struct LockedReaders<'r> {
    pooling: &'r Pooling,
    pool: RwLockWriteGuard<'r, Option<SqlitePool>>,
}

impl LockedReaders<'_> {
    /// Closes every connection, each when its statement has ended.
    pub(super) async fn close(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.close().await;
        }
    }

    /// Opens the file that is there now. A connection that is just being opened may be to the one before: whoever has
    /// asked for that goes on with it, and nobody else is given it.
    pub(super) async fn replace(&mut self) -> Result<(), StoreError> {
        *self.pool = None;
        self.open().await
    }

    /// Opens the file again, if it is closed.
    pub(super) async fn open(&mut self) -> Result<(), StoreError> {
        if self.pool.is_none() {
            *self.pool = Some(self.pooling.open().await?);
        }
        Ok(())
    }
}

/// One of them.
///
/// # Errors
/// [`StoreError::Overloaded`] when all are busy: to open a file takes no time.
pub(super) async fn reader(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    pool.acquire().await.map_err(|error| match error {
        sqlx::Error::PoolTimedOut => StoreError::Overloaded("no connection came free (store.max_connections)".into()),
        other => other.into(),
    })
}
