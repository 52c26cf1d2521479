//! Deferred writes on disk: what has been acknowledged and not yet been saved in the store. A bundled SQLite file.
//! Knows keys, fields and values; never the store, memory or what the writes are for.
//!
//! Invariants:
//! - an append is answered when its commit has been synced (`journal.sync = "always"`), and appends that wait are one
//!   commit;
//! - of a key's field the last value is kept, with its sequence number;
//! - a flush marks what it takes with its batch first, and the store remembers the batch in the transaction that
//!   applies it: after a crash the store says whether a marked entry has been applied (C5);
//! - batches are numbered within an incarnation, which is another at every opening: a file that was copied, or that
//!   went back in time, never numbers a batch as the store has noted one before;
//! - batches are taken in the order of their numbers, in strands that do not wait for each other: of each strand one
//!   batch at most is not settled;
//! - what was taken under one incarnation is settled before anything is taken under the next;
//! - nothing is acknowledged that is in a file which was removed, or replaced by another one: the journal is made again
//!   at its path first, with all that waits in it;
//! - how many entries it has taken is counted outside the file too: one that has lost its end, or is older, is told;
//! - the file names the incarnation whose entries it holds, and the store notes once who took them over: a copy of the
//!   file is known by that.

mod appending;
mod aside;
mod batches;
mod chunks;
mod condition;
mod entry;
mod error;
mod file;
mod incarnation;
mod layout;
mod mending;
mod place;
mod room;
mod tally;
mod weights;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use appending::Appending;
pub use batches::Batch;
pub use entry::{Change, Entry};
pub use error::JournalError;
pub use file::Refused;
pub use incarnation::Held;

use condition::Condition;
use file::{About, File};
use incarnation::Incarnation;
use place::has_one_name;
use room::Room;
use writer::{Order, Writer};

use crate::config;
use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::planted::is_planted;
use crate::telemetry::{LastingPart, Metrics, caught};

/// What becomes of what was put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearing {
    /// The last value of each field waits again, unless a newer one does; the next sidecar sends it.
    Retry,
    /// It is gone.
    Remove,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    incarnation: Incarnation,
    next: AtomicU64,
    /// Held while a batch is given its number and handed to the writer: the file takes them in the order of these.
    numbering: Mutex<()>,
    /// What waits belongs to this opening.
    has_succeeded: AtomicBool,
    room: Room,
    condition: Arc<Condition>,
    /// Keys that waited when it was opened, and have not been laid over the store's records yet.
    held: Mutex<HashSet<Bytes>>,
    orders: mpsc::UnboundedSender<Order>,
}

fn gone() -> JournalError {
    JournalError::File("its writer has ended: the sidecar is to be started again".into())
}

/// Runs the writer. After a panic nobody knows what its file holds of what was ordered last: it does not go on, and
/// says so.
async fn write(
    writer: Writer,
    ordered: mpsc::UnboundedReceiver<Order>,
    condition: Arc<Condition>,
    panics: Arc<PanicMetrics>,
) {
    if caught(LastingPart::Journal, &panics, writer.run(ordered)).await.is_none() {
        condition.set(Err(gone()));
    }
}

/// What a journal held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Entries that no flush had taken.
    pub entries: Vec<Entry>,
    /// Entries that a flush had taken, by its batch: the store knows whether it was applied.
    pub taken: Vec<(u64, Vec<Entry>)>,
    /// The incarnation that left this, of which the store has to be asked; empty if nothing of it can have been sent.
    pub incarnation: String,
    /// Openings that asked the store for what it left, and ended before they could note the answer.
    pub heirs: Vec<String>,
    /// The last batch that was taken under it, which may have been sent; 0: none.
    pub last: u64,
    /// What was known of mappings' columns, by the mapping's key pattern: see [`Journal::remember`].
    pub columns: HashMap<String, String>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.taken.is_empty()
    }
}

impl Journal {
    /// Opens the journal, and makes it if there is none. Its writer ends with the journal.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn open(settings: &config::Journal, metrics: &Metrics) -> Result<(Self, Waiting), JournalError> {
        let mut file = File::open(&settings.path, settings.sync).await?;
        file.tell_missing(&metrics.journal);
        let About { incarnation, last, is_used, heirs } = file.about().await?;
        let (aside, last_aside) = file.aside().await?;
        let mut waiting = Waiting { incarnation, last, heirs, ..file.waiting().await? };
        let is_reused = is_planted("note-reused") && !waiting.incarnation.is_empty();
        let incarnation = if is_reused { Incarnation::known(&waiting.incarnation) } else { Incarnation::fresh()? };
        // Nothing was sent, and nothing is left: nobody has to be asked.
        let is_idle = !is_used && waiting.heirs.is_empty() && waiting.is_empty();
        if is_idle || waiting.incarnation.is_empty() {
            file.succeed(&incarnation.name()).await?;
            waiting.incarnation.clear();
        }
        let all = || waiting.entries.iter().chain(waiting.taken.iter().flat_map(|(_, entries)| entries));
        let next = all().map(|entry| entry.seq).max().unwrap_or(0).max(waiting.last).max(last_aside) + 1;
        let bytes = all().map(Entry::weight).sum();
        let held: HashSet<Bytes> = all().map(|entry| entry.key.clone()).collect();
        let (orders, ordered) = mpsc::unbounded_channel();
        let condition = Arc::new(Condition::default());
        tokio::spawn(write(Writer::new(file, condition.clone()), ordered, condition.clone(), metrics.panics.clone()));
        let journal = Self {
            incarnation,
            next: AtomicU64::new(next),
            numbering: Mutex::default(),
            has_succeeded: AtomicBool::new(waiting.incarnation.is_empty()),
            room: Room::new(bytes, aside, settings.max_bytes.0 as u64, metrics.journal.clone()),
            condition,
            held: Mutex::new(held),
            orders,
        };
        Ok((journal, waiting))
    }

    /// Whether a journal could be at `path`, as far as can be seen without making anything.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn may_be_at(path: &Path) -> Result<(), String> {
        if path.is_dir() {
            return Err(format!("{} is a folder; name a file", path.display()));
        }
        has_one_name(path).map_err(|error| error.to_string())?;
        // Folders that are missing are made at start, in the nearest one that is there.
        let nearest = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
        match nearest {
            Some(folder) if folder.as_os_str().is_empty() || folder.is_dir() => {}
            Some(file) => return Err(format!("{} is no folder; name a file in one", file.display())),
            None => return Err("names no file".to_owned()),
        }
        let folder = nearest.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match std::fs::metadata(folder) {
            Ok(about) if about.permissions().readonly() => {
                Err(format!("the folder {} may not be written; name a file in another one", folder.display()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the folder {}: {error}", folder.display())),
        }
    }

    /// What was refused by the store, of a journal that may be in use, and how many entries are missing in it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn refused(path: &Path) -> Result<(Vec<Refused>, u64), JournalError> {
        file::refused(path).await
    }

    /// Clears what was put aside, all of it or that of one key, in a journal that nobody uses; how many fields.
    ///
    /// # Errors
    /// [`JournalError`], [`JournalError::InUse`] while a sidecar has it.
    pub async fn clear(path: &Path, clearing: Clearing, key: Option<&[u8]>) -> Result<u64, JournalError> {
        if !path.exists() {
            return Ok(0);
        }
        let mut file = File::open(path, config::JournalSync::Always).await?;
        file.begin().await?;
        let cleared = match clearing {
            Clearing::Retry => file.retry(key).await,
            Clearing::Remove => file.remove(key).await,
        }?;
        file.commit().await?;
        Ok(cleared)
    }

    fn lock_held(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys wait from before this opening, of which nobody else counts any yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock_held().len()
    }

    /// From here on somebody else counts the keys of these entries.
    pub fn let_go<'e>(&self, entries: impl Iterator<Item = &'e Entry>) {
        let mut held = self.lock_held();
        if !held.is_empty() {
            entries.for_each(|entry| {
                held.remove(&entry.key);
            });
        }
    }

    async fn order<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Order,
    ) -> Result<T, JournalError> {
        let (done, answer) = oneshot::channel();
        self.orders.send(make(done)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Sees whether there is room for these entries now. None is kept free for them.
    ///
    /// # Errors
    /// [`JournalError::Full`].
    pub fn would_take(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.room.has(entries.iter().map(Entry::weight).sum())
    }

    /// Whether writes are taken now, as far as is known: by what the last ones met, and by the files, which are looked
    /// at once a second.
    ///
    /// # Errors
    /// Why they are refused.
    pub fn takes(&self) -> Result<(), JournalError> {
        self.condition.get().and(self.room.takes())
    }

    /// The incarnation: the name under which the store remembers batches, another at every opening of the file.
    #[must_use]
    pub fn incarnation(&self) -> Arc<str> {
        self.incarnation.name()
    }

    /// Puts entries aside that are not to be saved: they wait no more, and are kept with the reason for an operator.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn put_aside(&self, entries: &[Entry], reason: &str) -> Result<(), JournalError> {
        let entries = entries.to_vec();
        let (freed, aside) = self.order(|done| Order::PutAside(entries, reason.to_owned(), done)).await?;
        self.room.put_aside(freed, aside);
        Ok(())
    }

    /// Notes on disk that this opening asks the store for what the one before left.
    ///
    /// # Errors
    /// [`JournalError`]: then it must not be asked.
    pub async fn announce(&self) -> Result<(), JournalError> {
        let heir = self.incarnation();
        self.order(|done| Order::Announce(heir, done)).await
    }

    /// Everything that waits belongs to this opening from now on, as the store has noted.
    ///
    /// # Errors
    /// [`JournalError`]: then nothing of it may be taken.
    pub async fn succeed(&self) -> Result<(), JournalError> {
        let heir = self.incarnation();
        self.order(|done| Order::Succeed(heir, done)).await?;
        self.has_succeeded.store(true, SeqCst);
        Ok(())
    }

    /// True when everything that waits belongs to this opening. Before that nothing may be taken.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(SeqCst)
    }

    /// Remembers what is known of mappings' columns, as texts by the mapping's key pattern, for a start without the
    /// store.
    ///
    /// # Errors
    /// [`JournalError`]: then what was known before stays.
    pub async fn remember(&self, columns: Vec<(String, String)>) -> Result<(), JournalError> {
        self.order(|done| Order::Remember(columns, done)).await
    }

    /// True when half of what may wait does.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.room.is_half_full()
    }

    /// The number that comes next.
    #[must_use]
    pub fn upcoming(&self) -> u64 {
        self.next.load(SeqCst)
    }
}
