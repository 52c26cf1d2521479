//! Whether a journal takes writes now, as far as its writer knows: what it has seen of the files, and how the last
//! commit went. Where that failed, it is tried out again and again whether the next one would go, also while nobody
//! writes.

use std::io::Write;
use std::path::Path;

use arc_swap::ArcSwapOption;
use tokio::task::JoinHandle;

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

/// The longest pause between two trials, in seconds.
const LONGEST_PAUSE: u32 = 8;

/// Finds out whether the next commit would go: whether the journal can be written, and then whether there is space
/// beside it. Trials come less and less often, and no order waits for the bytes of one.
#[derive(Debug, Default)]
pub(super) struct Trial {
    filling: Option<JoinHandle<Result<(), JournalError>>>,
    /// How long it still rests, and the last pause, in seconds.
    rests: u32,
    pause: u32,
}

impl Trial {
    /// Goes on with it; called once a second. True when a write of so many bytes would go.
    pub(super) async fn goes_on(&mut self, file: &mut File, bytes: u64) -> bool {
        match self.filling.take() {
            Some(filling) if !filling.is_finished() => self.filling = Some(filling),
            Some(filled) => match filled.await {
                Ok(Ok(())) => return true,
                _ => self.rest(),
            },
            None if self.rests > 0 => self.rests -= 1,
            None if takes(file).await => self.filling = Some(fills(file, bytes)),
            None => self.rest(),
        }
        false
    }

    fn rest(&mut self) {
        self.pause = (self.pause * 2).clamp(1, LONGEST_PAUSE);
        self.rests = self.pause - 1;
    }
}

/// Whether a commit goes that changes no entry.
async fn takes(file: &mut File) -> bool {
    let committed = commit_nothing(file).await;
    if committed.is_err() {
        file.rollback().await;
    }
    committed.is_ok()
}

/// Writes so many bytes beside the journal, and removes them again.
fn fills(file: &File, bytes: u64) -> JoinHandle<Result<(), JournalError>> {
    let path = beside(&found_at(file.place.path()), "-trial");
    tokio::task::spawn_blocking(move || {
        let written = fill(&path, bytes.clamp(LEAST, MOST));
        // It is not there, or is of no use.
        let _absent = std::fs::remove_file(&path);
        written.map_err(|error| failed(&path, &error))
    })
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
    file.commit().await
}
