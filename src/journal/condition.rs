//! Whether a journal takes writes now, as far as its writer knows: what it has seen of the files, and how the last
//! commit went. Where that failed, it is tried out again and again whether the next one would go, also while nobody
//! writes.

use std::io::Write;
use std::path::Path;

use arc_swap::ArcSwapOption;

use super::JournalError;
use super::file::File;
use super::place::failed;
use crate::telemetry::sqlite_files::{beside, found_at};

/// Why writes are refused, if they are.
#[derive(Debug, Default)]
pub(super) struct Condition(ArcSwapOption<JournalError>);

impl Condition {
    pub(super) fn get(&self) -> Result<(), JournalError> {
        self.0.load().as_deref().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn set(&self, now: Result<(), JournalError>) {
        if self.get() != now {
            self.0.store(now.err().map(Into::into));
        }
    }
}

/// The bytes of a trial: more than a few pages, and not the largest write.
const LEAST: u64 = 64 << 10;
const MOST: u64 = 16 << 20;

/// Sees whether a write of so many bytes would find space beside the journal, and the journal be written.
///
/// # Errors
/// Why not.
pub(super) async fn try_out(file: &mut File, bytes: u64) -> Result<(), JournalError> {
    let path = beside(&found_at(file.place.path()), "-trial");
    let tried = tokio::task::spawn_blocking(move || {
        let written = fill(&path, bytes.clamp(LEAST, MOST));
        // It is not there, or is of no use.
        let _absent = std::fs::remove_file(&path);
        written.map_err(|error| failed(&path, &error))
    });
    tried.await.map_err(|error| JournalError::File(error.to_string()))??;
    let committed = commit_nothing(file).await;
    if committed.is_err() {
        file.rollback().await;
    }
    committed
}

fn fill(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for _ in 0..bytes.div_ceil(LEAST) {
        file.write_all(&[0; LEAST as usize])?;
    }
    file.sync_all()
}

/// A commit that changes no entry, and is written all the same.
async fn commit_nothing(file: &mut File) -> Result<(), JournalError> {
    file.begin().await?;
    file.append(Vec::new()).await?;
    file.commit().await
}
