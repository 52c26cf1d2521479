//! What becomes of the store's file when its write-ahead log, or the index of that, is removed while it is open.
//! Whoever opens it then gets another log, and what is written to the removed one goes with the last process that has
//! it open. So what it holds is moved into the file, and the file is opened again when nobody uses the removed log any
//! more. All connections of this process are closed in between, because they share the index.
//!
//! Sources: <https://www.sqlite.org/wal.html>, <https://www.sqlite.org/howtocorrupt.html>

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteLockingMode};
use sqlx::{ConnectOptions, Connection};

use crate::store::StoreError;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::sqlite_files::{Part, SqliteFiles, beside};

/// Why nothing is read or written.
const MUST_WAIT: &str = "the write-ahead log of its file (-wal, -shm) was removed while it is in use, and another \
    program has the file open, perhaps with the removed log; it is opened again when that program has closed it";

pub(super) fn must_wait() -> StoreError {
    StoreError::Unavailable(MUST_WAIT.into())
}

/// What others have done with the file since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Nobody has written to it without the index that is open.
    Unwritten,
    /// Somebody has opened the log that is open with another index, and may have written to it.
    SameLog,
    /// Somebody has written to another log.
    AnotherLog,
}

impl Since {
    fn of(files: &SqliteFiles) -> Self {
        let is_written = std::fs::symlink_metadata(files.path(Part::Log)).is_ok_and(|log| log.len() > 0);
        match () {
            () if files.has_another(Part::Log) && is_written => Self::AnotherLog,
            () if files.has(Part::Log) && files.has_another(Part::Index) => Self::SameLog,
            () => Self::Unwritten,
        }
    }
}

/// Moves what a removed log holds into the file, where others find it.
///
/// # Errors
/// [`StoreError::Unavailable`]: others have written to the file since, or use the log at this moment.
pub(super) async fn save(connection: &mut SqliteConnection, files: &SqliteFiles) -> Result<(), StoreError> {
    if Since::of(files) != Since::Unwritten {
        return Err(must_wait());
    }
    let checkpoint = "PRAGMA wal_checkpoint(FULL)";
    let (is_blocked, _, _): (i64, i64, i64) = sqlx::query_as(checkpoint).fetch_one(connection).await?;
    if is_blocked == 0 { Ok(()) } else { Err(must_wait()) }
}

/// Saves what the removed log holds, as far as it can be: the connection may be closed.
///
/// # Errors
/// Nothing can be saved now; the connection must stay open.
pub(super) async fn settle(connection: &mut SqliteConnection, files: &SqliteFiles) -> Result<Settled, StoreError> {
    let gone = files.gone().join(", ");
    let mut rescued = None;
    match Since::of(files) {
        Since::Unwritten => {
            save(connection, files).await?;
            tracing::warn!(
                gone,
                "the write-ahead log of the store's file was removed while it is in use; what it held is in the file, \
                 which is opened again"
            );
            return Ok(Settled { kept: None, fits: false });
        }
        Since::SameLog => {}
        Since::AnotherLog => rescued = rescue(connection, files).await?,
    }
    let settled = Settled { kept: Kept::log_of(files), fits: rescued.is_none() };
    tracing::error!(
        gone,
        rescued = rescued.map(|path| path.display().to_string()),
        "the write-ahead log of the store's file was removed while it is in use, and another program has written to \
         the file since: of what was written last some may be missing. If `rescued` names a file, it is a copy of all \
         that the removed log knew"
    );
    Ok(settled)
}

/// A removed log of which nothing more can be saved.
pub(super) struct Settled {
    /// The log of others.
    kept: Option<Kept>,
    /// It goes on from what the file holds.
    fits: bool,
}

impl Settled {
    /// Closes the last connection of this process.
    pub(super) async fn close(self, connection: SqliteConnection) -> Result<(), StoreError> {
        // SQLite removes the log at the path with the last connection to a file, whosever it is.
        connection.close().await?;
        self.kept.map_or(Ok(()), |kept| kept.put_back(self.fits))
    }
}

/// Copies what the removed log knows, if not all of it is in the file; where that is.
async fn rescue(connection: &mut SqliteConnection, files: &SqliteFiles) -> Result<Option<PathBuf>, StoreError> {
    let look = "PRAGMA wal_checkpoint(NOOP)";
    let (_, held, saved): (i64, i64, i64) = sqlx::query_as(look).fetch_one(&mut *connection).await?;
    if held == saved {
        return Ok(None);
    }
    let path = beside(&files.path(Part::Database), &format!("-rescued-{}", UnixMs::now().as_ms()));
    let copied = sqlx::query("VACUUM INTO ?1").bind(path.display().to_string()).execute(connection).await;
    if let Err(error) = copied {
        // A part of a copy is of no use.
        let _absent = std::fs::remove_file(&path);
        return Err(error.into());
    }
    Ok(Some(path))
}

/// A log of others under a second name.
struct Kept {
    log: PathBuf,
    second: PathBuf,
}

impl Kept {
    fn log_of(files: &SqliteFiles) -> Option<Self> {
        let log = files.path(Part::Log);
        let second = beside(&log, "-kept");
        let _absent = std::fs::remove_file(&second);
        std::fs::hard_link(&log, &second).ok().map(|()| Self { log, second })
    }

    /// Gives the log its name again, if it has lost it and still fits the file.
    fn put_back(self, fits: bool) -> Result<(), StoreError> {
        let put = match fits && !self.log.exists() {
            true => std::fs::rename(&self.second, &self.log),
            false => std::fs::remove_file(&self.second),
        };
        put.map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.log.display())))
    }
}

/// Sees that nobody uses the removed log any more: either the file has another index, with which others go on, or
/// nobody has it open.
///
/// # Errors
/// [`StoreError::Unavailable`] while another program has it open.
pub(super) async fn is_left(options: &SqliteConnectOptions, files: &SqliteFiles) -> Result<(), StoreError> {
    if files.has_another(Part::Index) || !files.has(Part::Database) {
        return Ok(());
    }
    let alone = options.clone().locking_mode(SqliteLockingMode::Exclusive).busy_timeout(Duration::ZERO);
    let asked = async {
        let mut connection = alone.connect().await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
        connection.close().await
    };
    match asked.await.map_err(StoreError::from) {
        // Somebody else has a lock on it.
        Err(StoreError::Overloaded(_)) => Err(must_wait()),
        asked => asked,
    }
}
