//! Pools of connections, whose dead and retired ones are not used.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use super::IDLE;
use crate::config;
use crate::store::retirement::Retirement;

/// A pool of connections to the server of now. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    most: u32,
    settings: Arc<config::Store>,
    retirement: Retirement,
    pool: Arc<RwLock<PgPool>>,
}

impl Connections {
    /// At most so many, opened when they are needed.
    pub(super) fn new(
        most: u32,
        options: &PgConnectOptions,
        settings: &config::Store,
        retirement: &Retirement,
    ) -> Self {
        let first = Arc::new(RwLock::new(pool(most, options, settings, retirement)));
        Self { most, settings: Arc::new(settings.clone()), retirement: retirement.clone(), pool: first }
    }

    /// The pool of now.
    pub(super) fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its connections are opened from now on.
    pub(super) fn set_options(&self, options: PgConnectOptions) {
        self.pool().set_connect_options(options);
    }

    /// A new pool takes its place, of connections to another server. Nobody waits for those of before, also where they
    /// never come back.
    pub(super) fn lead_to(&self, options: &PgConnectOptions) {
        let new = pool(self.most, options, &self.settings, &self.retirement);
        let old = std::mem::replace(&mut *self.pool.write().unwrap_or_else(PoisonError::into_inner), new);
        // It is closed at once; what is waited for is that connections come back.
        drop(old.close());
    }
}

/// A pool of at most so many connections, opened when they are needed.
fn pool(most: u32, options: &PgConnectOptions, settings: &config::Store, retirement: &Retirement) -> PgPool {
    let retired = retirement.clone();
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(settings.connect_timeout)
        // A dead connection shows at its next statement; writes, which cannot be tried again, do not meet one that has
        // been idle.
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let is_retired = retired.concerns(meta.age);
            Box::pin(async move {
                if is_retired {
                    return Ok(false);
                }
                if meta.idle_for >= IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.clone())
}
