//! Appends: entries get their numbers and are handed to the file's writer in one step, and are acknowledged when they
//! are on disk.

use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::oneshot;

use super::writer::Order;
use super::{Entry, Journal, JournalError, gone};
use crate::telemetry::planted::is_planted;

/// Entries that are on their way into the file.
#[derive(Debug)]
pub struct Appending {
    /// With their numbers.
    pub entries: Vec<Entry>,
    weight: u64,
    done: oneshot::Receiver<Result<u64, JournalError>>,
}

impl Journal {
    /// Writes these fields' values, and returns when they are on disk; the entries with their numbers.
    ///
    /// # Errors
    /// [`JournalError`]: then nothing of it has been taken.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, JournalError> {
        self.appended(self.begin_append(entries)?).await
    }

    /// Begins to write these fields' values: they come after whatever was begun before.
    ///
    /// # Errors
    /// [`JournalError`]: then nothing of it will be taken.
    pub fn begin_append(&self, mut entries: Vec<Entry>) -> Result<Appending, JournalError> {
        let weight: u64 = entries.iter().map(Entry::weight).sum();
        self.room.take(weight)?;
        let first = self.next.fetch_add(entries.len() as u64, SeqCst);
        for (i, entry) in entries.iter_mut().enumerate() {
            entry.seq = first + i as u64;
        }
        let (told, done) = oneshot::channel();
        let appending = Appending { entries: entries.clone(), weight, done };
        if is_planted("no-fsync") {
            let (orders, (late, _told)) = (self.orders.clone(), oneshot::channel());
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                orders.send(Order::Append(entries, vec![late]))
            });
            let _told = told.send(Ok(0));
        } else {
            self.orders.send(Order::Append(entries, vec![told])).map_err(|_| gone())?;
        }
        Ok(appending)
    }

    /// Returns when entries are on disk, with these.
    ///
    /// # Errors
    /// [`JournalError`]: then nothing of it has been taken, unless the error says that it may be.
    pub async fn appended(&self, appending: Appending) -> Result<Vec<Entry>, JournalError> {
        let Appending { entries, weight, done } = appending;
        let replaced = done.await.unwrap_or(Err(JournalError::Unanswered));
        self.room.free(*replaced.as_ref().unwrap_or(&weight));
        if let Err(error) = replaced {
            self.room.refused();
            return Err(error);
        }
        self.let_go(entries.iter());
        Ok(entries)
    }
}
