//! A pool of connections, whose dead and retired ones are not used.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use super::IDLE;
use crate::config;
use crate::store::retirement::Retirement;

/// A pool of at most so many connections, opened when they are needed.
pub(super) fn pool(most: u32, options: &PgConnectOptions, settings: &config::Store, retirement: &Retirement) -> PgPool {
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
