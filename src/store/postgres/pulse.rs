//! One connection for a short statement that must not wait behind any other: whether the server is there, and whether
//! the change feed is alive. What other connections are busy with, or locked out of, does not concern it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tokio::sync::Mutex;

use super::key_connections::has_died;
use super::way::Way;

/// A connection, and how it was opened.
type Open = (PgConnection, Arc<PgConnectOptions>);

/// The connection, opened when it is needed.
#[derive(Debug)]
pub(super) struct Pulse {
    way: Way,
    /// How long opening it may take.
    patience: Duration,
    open: Mutex<Option<Open>>,
}

impl Pulse {
    pub(super) fn new(way: Way, patience: Duration) -> Self {
        Self { way, patience, open: Mutex::default() }
    }

    /// The next statement goes over another connection.
    pub(super) async fn renew(&self) {
        self.open.lock().await.take();
    }

    /// The row of a statement with these parameters. Over a connection that has died unnoticed it is tried once more.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] when no connection can be opened in time, and the statement's.
    pub(super) async fn run(&self, sql: &str, values: &[&str]) -> Result<PgRow, sqlx::Error> {
        let mut open = self.open.lock().await;
        // Taken out: one whose statement is given up is closed.
        if let Some((known, options)) = open.take().filter(|(_, options)| self.way.is_by(options)) {
            match execute(known, sql, values).await {
                Err(error) if has_died(&error) => {}
                result => return result.map(|(connection, row)| keep(&mut open, (connection, options), row)),
            }
        }
        let options = self.way.get();
        let connecting = tokio::time::timeout(self.patience, options.connect());
        let connection = connecting.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let (connection, row) = execute(connection, sql, values).await?;
        Ok(keep(&mut open, (connection, options), row))
    }
}

fn keep(open: &mut Option<Open>, connection: Open, row: PgRow) -> PgRow {
    *open = Some(connection);
    row
}

/// Runs a statement, and gives the connection back if it was answered well.
async fn execute(
    mut connection: PgConnection,
    sql: &str,
    values: &[&str],
) -> Result<(PgConnection, PgRow), sqlx::Error> {
    let row = if values.is_empty() {
        // Not prepared: a pooler could lend another session for what was prepared.
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await?
    } else {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        values.iter().fold(query, |query, value| query.bind(*value)).fetch_one(&mut connection).await?
    };
    Ok((connection, row))
}
