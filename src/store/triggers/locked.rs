//! Runs what needs a lock on a table that others use: for a short time, several times.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::function::constant;

/// How often a lock is tried for.
const ATTEMPTS: u32 = 5;

/// Runs a script about one thing in a transaction of its own, and returns its rows, which are texts. `patience` is how
/// long it waits for a lock; then it lets others go first, and tries again.
///
/// # Errors
/// The last attempt's.
pub(in crate::store) async fn run(
    pool: &PgPool,
    about: &str,
    script: &str,
    patience: Duration,
) -> Result<Vec<String>, sqlx::Error> {
    let mut attempt = 1;
    loop {
        match once(pool, about, script, patience).await {
            Err(error) if attempt < ATTEMPTS && is_in_the_way(&error) => {
                tracing::info!(about, attempt, %error, "others are in the way; it is tried again");
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(200..=600))).await;
            }
            done => return done,
        }
    }
}

async fn once(pool: &PgPool, about: &str, script: &str, patience: Duration) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // Several processes may do the same at once.
    let begin = format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning; \
         DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('hearthside.triggers'), hashtext({})); END $$;",
        patience.as_millis().max(1),
        constant(about)
    );
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *transaction).await?;
    let rows = sqlx::raw_sql(AssertSqlSafe(script.to_owned())).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A lock that was not had in time, a deadlock, or another process that did the same.
fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["55P03", "40P01", "40001", "XX000"].contains(&&*code))
}
