//! The one connection that writes and is asked for changes. It follows the file that has the store's path: another one
//! that takes its place is opened, and so is this one when its log was removed.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::database_file;
use super::interests::Interests;
use super::own_changes::{self, Installed};
use super::readers::Readers;
use super::removed_log;
use crate::store::StoreError;
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::Tick;
use crate::telemetry::sqlite_files::{FileId, Part, SqliteFiles};

/// Milliseconds between two attempts to open a file that others may have open with a removed log. Each holds a lock for
/// a moment, in which another program that closes the file cannot save what it has written.
const PAUSE: u64 = 1000;

/// What opens and keeps the connection.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// Where the file is; none of a database in memory.
    path: Option<PathBuf>,
    readers: Arc<Readers>,
    held: Arc<Mutex<Held>>,
    faults: LogThrottle,
}

/// The connection, if it is open, and the files that this process has open.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) open: Option<Open>,
    files: Files,
}

#[derive(Clone, Debug, Default)]
enum Files {
    /// None, or a database in memory.
    #[default]
    None,
    Open(Arc<SqliteFiles>),
    /// They were closed because the log had been removed. When it was tried last to open the file again.
    Left(Arc<SqliteFiles>, Tick),
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: SqliteConnection,
    /// The version at the last look; a new connection knows none, so that everything before it counts as changed.
    pub(super) version: Option<i64>,
    files: Option<Arc<SqliteFiles>>,
    /// The triggers that it has.
    installed: Option<Installed>,
}

impl Open {
    /// Sees that others find what was committed.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`]: it is in a file, or a log, that was removed meanwhile.
    pub(super) async fn confirm(&mut self) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        if files.has_another(Part::Database) {
            return Err(StoreError::Ambiguous("the store's file was replaced meanwhile".into()));
        }
        if !files.has(Part::Database) {
            return Err(StoreError::Ambiguous("the store's file was removed or moved away meanwhile".into()));
        }
        if files.are_there() {
            return Ok(());
        }
        let saved = removed_log::save(&mut self.connection, files).await;
        saved.map_err(|_| StoreError::Ambiguous("the write-ahead log of the store's file was removed meanwhile".into()))
    }
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, path: Option<PathBuf>, readers: Arc<Readers>) -> Self {
        Self { options, path, readers, held: Arc::default(), faults: LogThrottle::default() }
    }

    /// Sees that there is a file at the store's path: what is open has no name any more where there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names the path.
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        let Some(path) = &self.path else { return Ok(()) };
        match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(database_file::gone(path)),
            Err(error) => Err(StoreError::Unavailable(format!("its file {}: {error}", path.display()))),
        }
    }

    /// The file that has the store's path now.
    pub(super) fn file(&self) -> Option<FileId> {
        FileId::at(self.path.as_ref()?)
    }

    /// The connection, opened if need be.
    pub(super) async fn lock(&self) -> Result<OwnedMutexGuard<Held>, StoreError> {
        let mut held = self.held.clone().lock_owned().await;
        if let Err(error) = self.follow(&mut held).await {
            if let Some(unlogged) = self.faults.due() {
                tracing::error!(%error, unlogged, "the store's file is not opened again: nothing is read or written");
            }
            return Err(error);
        }
        if held.open.is_none() {
            self.open(&mut held).await?;
        }
        Ok(held)
    }

    /// Closes and opens what has to be, by the files that are at the path now.
    async fn follow(&self, held: &mut Held) -> Result<(), StoreError> {
        self.is_there()?;
        match held.files.clone() {
            Files::Open(files) | Files::Left(files, _) if files.has_another(Part::Database) => {
                tracing::warn!("the store's file was replaced by another one, which is opened");
                *held = Held::default();
                self.readers.lock().await.replace().await?;
            }
            Files::Open(files) if files.has(Part::Database) && !files.are_there() => {
                self.leave_and_return(held, files).await?;
            }
            Files::Left(_, at) if Tick::now().since(at) < PAUSE => return Err(removed_log::must_wait()),
            Files::Left(files, _) => self.leave_and_return(held, files).await?,
            Files::None | Files::Open(_) => {}
        }
        // An attempt before this one may have closed them, and failed then.
        self.readers.open_again().await
    }

    /// Leaves the removed log, and opens the file again. Whoever wants to read waits meanwhile.
    async fn leave_and_return(&self, held: &mut Held, files: Arc<SqliteFiles>) -> Result<(), StoreError> {
        let files = Arc::new(files.leaving());
        let mut readers = self.readers.lock().await;
        readers.close().await;
        let settled = match &mut held.open {
            Some(open) => Some(removed_log::settle(&mut open.connection, &files).await?),
            None => None,
        };
        held.files = Files::Left(files.clone(), Tick::now());
        if let (Some(settled), Some(open)) = (settled, held.open.take()) {
            settled.close(open.connection).await?;
        }
        removed_log::is_left(&self.options, &files).await?;
        readers.open().await?;
        self.open(held).await?;
        if matches!(&held.files, Files::Open(now) if !now.are_complete()) {
            // A connection that was given up is not closed yet: it still shares the index that was removed.
            *held = Held { open: None, files: Files::Left(files, Tick::now()) };
            readers.close().await;
            return Err(removed_log::must_wait());
        }
        Ok(())
    }

    async fn open(&self, held: &mut Held) -> Result<(), StoreError> {
        let found = || self.path.as_deref().map(SqliteFiles::at);
        let before = found();
        let mut connection = self.options.connect().await?;
        // The log is there once the file has been read.
        sqlx::query("PRAGMA schema_version").execute(&mut connection).await?;
        let files = found().map(Arc::new);
        if let (Some(before), Some(files)) = (&before, &files)
            && files.is_another(before)
        {
            return Err(StoreError::Unavailable("its file was replaced while it was opened".into()));
        }
        held.files = files.clone().map_or(Files::None, Files::Open);
        held.open = Some(Open { connection, version: None, files, installed: None });
        Ok(())
    }

    /// The same, with the triggers that note what is changed over it.
    pub(super) async fn lock_to_write(&self, interests: &Interests) -> Result<OwnedMutexGuard<Held>, StoreError> {
        let mut held = self.lock().await?;
        if let Some(open) = held.open.as_mut() {
            let has = open.installed.take();
            open.installed = Some(own_changes::install(&mut open.connection, interests, has).await?);
        }
        Ok(held)
    }
}
