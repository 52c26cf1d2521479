//! Makes a journal again whose files were removed, or replaced, while it is open: what is open still holds everything.
//! Nothing may be acknowledged before that has been done, because nobody would find it.

use std::path::Path;

use super::JournalError;
use super::file::{File, connect};
use super::place::{Place, failed, lock};
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::Tick;
use crate::telemetry::sqlite_files::{Part, beside, found_at};

/// Milliseconds between two attempts.
const PAUSE: u64 = 1000;

/// Looks after the files of a journal.
#[derive(Debug, Default)]
pub(super) struct Mender {
    /// Why the last attempt failed, and when that was.
    failed: Option<(Tick, JournalError)>,
    faults: LogThrottle,
}

impl Mender {
    /// Sees that the files are there that are open, and makes the journal again where they are not.
    ///
    /// # Errors
    /// Why it cannot be made again: nothing may be acknowledged.
    pub(super) async fn look_after(&mut self, file: &mut File) -> Result<(), JournalError> {
        if file.place.is_whole() {
            if self.failed.take().is_some() {
                tracing::info!("the journal's files are at their path again; deferred writes are taken");
            }
            return Ok(());
        }
        if let Some((at, error)) = &self.failed
            && Tick::now().since(*at) < PAUSE
        {
            return Err(error.clone());
        }
        let gone = file.place.gone();
        let mended = mend(file).await;
        self.failed = mended.clone().err().map(|error| (Tick::now(), error));
        self.log(file, &gone, &mended);
        mended
    }

    fn log(&self, file: &File, gone: &str, mended: &Result<(), JournalError>) {
        let path = file.place.path().display();
        let Err(error) = mended else {
            tracing::warn!(
                file = %path,
                gone,
                "files of the journal were removed or replaced while it is in use; it was made again with all that \
                 waits in it, and nothing is lost"
            );
            return;
        };
        if let Some(unlogged) = self.faults.due() {
            tracing::error!(
                file = %path,
                gone,
                %error,
                unlogged,
                "files of the journal were removed or replaced while it is in use, and it cannot be made again: \
                 deferred writes are refused. Those that wait go on to the store"
            );
        }
    }
}

async fn mend(file: &mut File) -> Result<(), JournalError> {
    let path = file.place.path().to_path_buf();
    if file.place.database.has_another(Part::Database) {
        return Err(JournalError::Replaced(format!("another file is at {}", path.display())));
    }
    if !file.place.has_lock() {
        lock_again(file, &path)?;
    }
    match file.place.database.are_there() {
        true => Ok(()),
        false => make_again(file, &path).await,
    }
}

fn lock_again(file: &mut File, path: &Path) -> Result<(), JournalError> {
    match lock(path) {
        Ok(lock) => file.lock = lock,
        // What is open is the other process's too: nothing may be written there.
        Err(error) if file.place.database.are_there() => return Err(error),
        Err(error) => return Err(JournalError::Replaced(error.to_string())),
    }
    file.place.renew_lock();
    file.note_tally();
    Ok(())
}

/// Puts a copy of the open database where the journal is, and opens that. It holds the same, and is the same opening:
/// nobody else finds what was open before.
async fn make_again(file: &mut File, path: &Path) -> Result<(), JournalError> {
    let real = found_at(path);
    let [copy, log, index] = ["-copy", "-wal", "-shm"].map(|ending| beside(&real, ending));
    remove(&copy)?;
    file.copy_to(&copy).await?;
    synced(&copy).await?;
    // From here on the old database needs no log, so that there is a whole one at every moment. It may be in use.
    let _attempt = file.empty_log().await;
    remove(&log)?;
    remove(&index)?;
    std::fs::rename(&copy, &real).map_err(|error| failed(&real, &error))?;
    file.place.database.renew_database();
    if let Some(folder) = real.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        synced(folder).await?;
    }
    // What is at the path is left alone when the old one is closed: SQLite sees that its database is not there.
    let before = file.place.database.clone();
    let copy = connect(path, file.sync, false).await?;
    file.replace(copy).await?;
    file.place = Place::opened(&before, &file.lock)?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// Syncs a file or a folder: SQLite does not sync what `VACUUM INTO` makes.
async fn synced(path: &Path) -> Result<(), JournalError> {
    let file = path.to_path_buf();
    let sync = tokio::task::spawn_blocking(move || std::fs::File::open(&file)?.sync_all());
    sync.await.map_err(std::io::Error::other).flatten().map_err(|error| failed(path, &error))
}
