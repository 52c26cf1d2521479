//! The change feed of SQLite: `PRAGMA data_version` on a separate connection says that some other connection, of this
//! process or another, has committed. It does not say what, so everything is taken as changed. Our own writes go over
//! that same connection, which does not report them: `own_changes` tells what they change.
//!
//! Source: <https://www.sqlite.org/pragma.html#pragma_data_version>

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::interests::Interests;
use super::own_changes::{self, Installed};
use crate::config;
use crate::store::retirement::Retirement;
use crate::store::{Change, OnChange, StoreError};
use crate::telemetry::FileId;
use crate::telemetry::clock::Tick;

/// The one connection that writes and is asked for changes.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// Where the file is; none of a database in memory.
    path: Option<PathBuf>,
    /// Of the connections that read.
    readers: Retirement,
    open: Arc<Mutex<Option<Open>>>,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: SqliteConnection,
    /// The version at the last look; a new connection knows none, so that everything before it counts as changed.
    version: Option<i64>,
    /// The file that it has opened, and where that was.
    file: Option<FileId>,
    path: Option<PathBuf>,
    /// The triggers that it has.
    installed: Option<Installed>,
}

impl Open {
    /// True when another file has taken the name of the one that it has opened, or none has it.
    pub(super) fn is_cut_off(&self) -> bool {
        self.path.as_ref().is_some_and(|path| FileId::at(path) != self.file)
    }
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, path: Option<PathBuf>, readers: Retirement) -> Self {
        Self { options, path, readers, open: Arc::default() }
    }

    /// The file that has the store's name now.
    pub(super) fn file(&self) -> Option<FileId> {
        FileId::at(self.path.as_ref()?)
    }

    /// The connection, opened if need be, and again if another file has taken the name of the one that it has opened.
    pub(super) async fn lock(&self) -> Result<OwnedMutexGuard<Option<Open>>, StoreError> {
        let mut open = self.open.clone().lock_owned().await;
        let file = self.file();
        if file.is_some() && open.as_ref().is_some_and(|open| open.file != file) {
            tracing::warn!("the store's file was replaced by another one, which is opened");
            *open = None;
            self.readers.retire_all();
        }
        if open.is_none() {
            let connection = SqliteConnection::connect_with(&self.options).await?;
            let path = self.path.clone();
            *open = Some(Open { connection, version: None, file, path, installed: None });
        }
        Ok(open)
    }

    /// The same, with the triggers that note what is changed over it.
    pub(super) async fn lock_to_write(
        &self,
        interests: &Interests,
    ) -> Result<OwnedMutexGuard<Option<Open>>, StoreError> {
        let mut guard = self.lock().await?;
        if let Some(open) = guard.as_mut() {
            let has = open.installed.take();
            open.installed = Some(own_changes::install(&mut open.connection, interests, has).await?);
        }
        Ok(guard)
    }

    /// True when another connection has committed since the last look.
    async fn has_changed(&self) -> Result<bool, StoreError> {
        let mut guard = self.lock().await?;
        let Some(open) = guard.as_mut() else { return Ok(true) };
        match sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut open.connection).await {
            Ok(version) => Ok(open.version.replace(version) != Some(version)),
            Err(error) => {
                *guard = None;
                Err(error.into())
            }
        }
    }
}

/// Gives `on_change` every change, for ever.
pub(super) async fn watch(writer: &Writer, settings: &config::Store, on_change: OnChange) {
    loop {
        let asked = Tick::now();
        match writer.has_changed().await {
            Ok(changed) => {
                if changed {
                    on_change(Change::Everything);
                }
                on_change(Change::Alive(asked));
                tokio::time::sleep(settings.poll_interval).await;
            }
            Err(error) => {
                on_change(Change::Gap(format!("the store's file cannot be watched: {error}")));
                tokio::time::sleep(settings.poll_interval.max(std::time::Duration::from_millis(100))).await;
            }
        }
    }
}
