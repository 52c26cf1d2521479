//! Where a journal's files are, and whether those that are open are still there: its database, and the lock beside it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::JournalError;
use crate::telemetry::sqlite_files::{FileId, SqliteFiles, beside, found_at};

/// The lock of a journal. It holds the tally too. It stands beside the database itself, so that a journal to which
/// several links lead has one.
pub(super) fn lock_of(path: &Path) -> PathBuf {
    beside(&found_at(path), ".lock")
}

/// Locks a journal, which is then nobody else's.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let name = lock_of(path);
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(&name);
    let lock = lock.map_err(|error| failed(&name, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(&name, &error)),
    }
}

/// Sees that a journal has one name, if it is there: its log and its lock stand beside each name, and whoever opened it
/// by another one would find neither.
pub(super) fn has_one_name(path: &Path) -> Result<(), JournalError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.nlink() > 1 => Err(JournalError::File(format!(
            "{} has {} names (hard links), and may be in use by another of them: remove the others, or copy the file \
             (`find / -xdev -samefile FILE` shows them)",
            path.display(),
            found.nlink()
        ))),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> JournalError {
    JournalError::File(format!("{}: {error}", path.display()))
}

/// A journal's files that are open.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) database: SqliteFiles,
    lock: Option<FileId>,
}

impl Place {
    /// Those that are there now are open, and were there `before` they were opened, if any were.
    ///
    /// # Errors
    /// What was opened may be another file than the one that is there.
    pub(super) fn opened(before: &SqliteFiles, lock: &File) -> Result<Self, JournalError> {
        let path = before.given();
        let database = SqliteFiles::at(path);
        if database.is_another(before) {
            return Err(JournalError::File(format!("{} was replaced while it was opened", path.display())));
        }
        let lock = lock.metadata().map_err(|error| failed(&lock_of(path), &error))?;
        Ok(Self { database, lock: Some(FileId::of(&lock)) })
    }

    pub(super) fn path(&self) -> &Path {
        self.database.given()
    }

    /// True when whoever opens the journal now finds the files that are open.
    pub(super) fn is_whole(&self) -> bool {
        self.database.are_there() && self.has_lock()
    }

    pub(super) fn has_lock(&self) -> bool {
        FileId::at(&lock_of(self.path())) == self.lock
    }

    /// The lock that is there now is the one that is held.
    pub(super) fn renew_lock(&mut self) {
        self.lock = FileId::at(&lock_of(self.path()));
    }

    /// The names of the files that are open, and not there any more.
    pub(super) fn gone(&self) -> String {
        let mut gone = self.database.gone();
        let lock = lock_of(self.path());
        gone.extend(lock.file_name().filter(|_| !self.has_lock()).map(|name| name.to_string_lossy().into_owned()));
        gone.join(", ")
    }
}
