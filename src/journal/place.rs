//! Where a journal's files are, and whether those that are open are still there. What is written to a file that was
//! removed, or in whose place another one is, nobody finds again.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::JournalError;
use crate::telemetry::FileId;

/// A journal's files, by what follows its path: the database, its write-ahead log, the index of that, and the lock.
const ENDINGS: [&str; 4] = ["", "-wal", "-shm", ".lock"];
const DATABASE: usize = 0;
const LOCK: usize = 3;

/// The path of a file that stands beside another.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

/// The lock of a journal. It holds the tally too.
pub(super) fn lock_of(path: &Path) -> PathBuf {
    beside(path, ENDINGS[LOCK])
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

pub(super) fn failed(path: &Path, error: &std::io::Error) -> JournalError {
    JournalError::File(format!("{}: {error}", path.display()))
}

/// A journal's files, and which of them are open.
#[derive(Debug)]
pub(super) struct Place {
    files: [PathBuf; ENDINGS.len()],
    open: [Option<FileId>; ENDINGS.len()],
}

impl Place {
    /// With the files that are there now.
    pub(super) fn at(path: &Path) -> Self {
        // SQLite keeps the log beside the database itself, also where the path is a link to it.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let files = [path.to_path_buf(), beside(&real, ENDINGS[1]), beside(&real, ENDINGS[2]), lock_of(path)];
        let open = files.each_ref().map(|file| FileId::at(file));
        Self { files, open }
    }

    pub(super) fn path(&self) -> &Path {
        &self.files[DATABASE]
    }

    fn is_there(&self, which: usize) -> bool {
        FileId::at(&self.files[which]) == self.open[which]
    }

    /// True when whoever opens the journal now finds the files that are open.
    pub(super) fn is_whole(&self) -> bool {
        (0..ENDINGS.len()).all(|which| self.is_there(which))
    }

    /// The names of the files that are open, and not there any more.
    pub(super) fn gone(&self) -> String {
        let gone = (0..ENDINGS.len()).filter(|which| !self.is_there(*which));
        let names: Vec<_> = gone.filter_map(|which| self.files[which].file_name()?.to_str()).collect();
        names.join(", ")
    }

    /// True when what is there is the open database with its log, whatever became of the lock.
    pub(super) fn has_database(&self) -> bool {
        (DATABASE..LOCK).all(|which| self.is_there(which))
    }

    /// True when another database has the path.
    pub(super) fn is_taken(&self) -> bool {
        !self.is_there(DATABASE) && self.files[DATABASE].exists()
    }

    pub(super) fn has_lock(&self) -> bool {
        self.is_there(LOCK)
    }

    /// The lock that is there now is the one that is held.
    pub(super) fn renew_lock(&mut self) {
        self.open[LOCK] = FileId::at(&self.files[LOCK]);
    }

    /// The database that is there now is a copy of the one that is open: it may be replaced by another copy.
    pub(super) fn renew_database(&mut self) {
        self.open[DATABASE] = FileId::at(&self.files[DATABASE]);
    }
}
