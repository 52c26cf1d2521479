//! Keys that expire by a column of their row: setting the expiry is a deferred change of that column, and so is a
//! renewal by a read.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use super::WriteBehind;
use super::journalling::Deferred;
use crate::cache::source::Cached;
use crate::errors;
use crate::journal::{Appending, Change, Journal, JournalError};
use crate::keys::MappingId;
use crate::record::{Edit, ExpireCommand, ReadError, RowEdit, TtlChange};
use crate::store::StoreError;
use crate::telemetry::clock::{Tick, UnixMs};
use crate::telemetry::metrics::WriteBehindMetrics;

impl Cached {
    /// True when the row of a key must say when it expires.
    fn must_end(&self) -> bool {
        self.current.plan().is_ok_and(|plan| plan.must_end())
    }

    /// The life that a write leaves, where the mapping's keys expire by a column; `None`: as it was.
    pub(crate) fn life_after(&self, asked: TtlChange, is_new: bool) -> Option<TtlChange> {
        if !self.expires_by_column() {
            return None;
        }
        let block = self.block();
        let whole = block.ttl.map(|ttl| TtlChange::Left(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
        let must_end = self.must_end();
        match asked {
            TtlChange::Left(_) => Some(asked),
            _ if block.renew && whole.is_some() => whole,
            TtlChange::Persist if must_end => Some(whole.unwrap_or(asked)),
            TtlChange::Persist => Some(asked),
            // A row without values is no key, and has no expiry.
            TtlChange::Keep if is_new && must_end => whole,
            TtlChange::Keep if is_new => Some(whole.unwrap_or(TtlChange::Persist)),
            TtlChange::Keep => None,
        }
    }

    /// An edit with the milliseconds that a row has to live which it makes.
    pub(crate) fn row_edit<'e>(&self, edit: &'e Edit, asked: TtlChange) -> RowEdit<'e> {
        let left = match self.life_after(asked, true) {
            Some(TtlChange::Left(left)) => Some(left),
            // It does not expire, or as its table says.
            Some(TtlChange::Persist | TtlChange::Keep) | None => None,
        };
        RowEdit { left, ..edit.into() }
    }

    /// Refuses a write that leaves a key without an expiry where its row must have one.
    ///
    /// # Errors
    /// [`StoreError::Field`].
    pub(crate) fn may_live(&self, asked: TtlChange) -> Result<(), StoreError> {
        let column = self.block().expires_column.as_deref().filter(|_| self.must_end());
        match (column, self.life_after(asked, false)) {
            (Some(column), Some(TtlChange::Persist)) => {
                let reason = "its column must have a value (NOT NULL): give the key a TTL (EX), or the mapping a ttl";
                Err(StoreError::Field { field: column.to_owned(), reason: reason.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// As [`ExpireCommand::of_left`]; an expiry is not taken away where the row must have one.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) fn life_of(&self, command: &ExpireCommand, left: Option<i64>) -> Result<Option<TtlChange>, ReadError> {
        match command.of_left(left)? {
            Some(TtlChange::Persist) if self.must_end() => Err(ReadError::Other(errors::owned::MUST_END)),
            life => Ok(life),
        }
    }
}

/// What is journaled about an expiry; `None`: nothing.
pub(crate) fn expiry_of(life: TtlChange) -> Option<Change> {
    match life {
        TtlChange::Keep => None,
        TtlChange::Persist => Some(Change::Expiry(None)),
        TtlChange::Left(left) => Some(Change::Expiry(Some(UnixMs::now().plus(left)))),
    }
}

/// A read that has renewed a key's TTL.
#[derive(Debug)]
pub(crate) struct Renewal {
    mapping: MappingId,
    key: Bytes,
    /// When the key expires now.
    expiry: Tick,
}

/// Most renewals by reads that wait to be journaled.
const MOST_WAITING: usize = 65_536;

/// Most that are journaled at once.
const AT_ONCE: usize = 4096;

/// How long those that wait may take to be journaled when another cache goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The queue for renewals by reads.
#[derive(Debug)]
pub(crate) struct Renewals {
    queue: mpsc::Sender<Renewal>,
    /// Held while some are journaled. True: no more are, because another cache goes on.
    have_ended: Mutex<bool>,
}

impl Renewals {
    /// An empty queue, and its receiving end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Renewal>) {
        let (queue, renewed) = mpsc::channel(MOST_WAITING);
        (Self { queue, have_ended: Mutex::default() }, renewed)
    }

    /// One more that waits, unless too many do: the journal is far behind then, and the next read of the key renews it.
    fn add(&self, renewal: Renewal, metrics: &WriteBehindMetrics) {
        // The receiving end lives as long as the process.
        if self.queue.try_send(renewal).is_err() {
            metrics.renewals_dropped.inc();
        }
    }

    /// Waits until those that have come are journaled; what comes from then on is not.
    pub(super) async fn end(&self) {
        // There is room for all when none waits.
        let _are_taken = tokio::time::timeout(PATIENCE, self.queue.reserve_many(MOST_WAITING)).await;
        *self.have_ended.lock().await = true;
    }
}

impl WriteBehind {
    /// What is to be journaled of the life that a key is given; nothing without a journal, or where no column says when
    /// keys expire.
    pub(crate) fn expiry(&self, cached: &Cached, key: &Bytes, life: TtlChange) -> Option<Deferred> {
        let change = expiry_of(life).filter(|_| self.journal.is_some() && cached.expires_by_column())?;
        Some(Deferred { mapping: cached.mapping().id, key: key.clone(), change })
    }

    /// A read has renewed a key's TTL; nobody waits until that is journaled.
    pub(crate) fn renew(&self, mapping: MappingId, key: &[u8], expiry: Tick) {
        self.renewals.add(Renewal { mapping, key: Bytes::copy_from_slice(key), expiry }, &self.metrics);
    }

    /// Journals renewals by reads, many at once, for ever.
    pub(crate) async fn renew_for_ever(&self, renewals: &mut mpsc::Receiver<Renewal>) {
        loop {
            let mut some = Vec::new();
            if renewals.recv_many(&mut some, AT_ONCE).await == 0 {
                return;
            }
            self.journal_renewals(some).await;
        }
    }

    async fn journal_renewals(&self, renewals: Vec<Renewal>) {
        let have_ended = self.renewals.have_ended.lock().await;
        let Some(journal) = self.journal.as_ref().filter(|_| !*have_ended) else { return };
        let begun: Vec<_> = renewals.into_iter().filter_map(|renewal| self.begin_to_renew(journal, renewal)).collect();
        let mut failed = None;
        for (key, begun) in begun {
            failed = self.end_renewal(journal, &key, begun).await.err().or(failed);
        }
        if let Some(error) = failed {
            tracing::warn!(%error, "renewals by reads are not journaled");
        }
        self.wake_flusher();
    }

    /// Begins to journal a renewal. It is in the overlay before anybody can queue to write the key: nobody waits for
    /// it, and an expiry that the key is given afterwards must come behind it everywhere. What has been given another
    /// expiry, or has gone, meanwhile is not renewed; nor what could never be saved.
    fn begin_to_renew(&self, journal: &Journal, renewal: Renewal) -> Option<(Bytes, Result<Appending, JournalError>)> {
        let Renewal { mapping, key, expiry } = renewal;
        self.memory.source.known(mapping).and_then(|cached| cached.current.plan()?.may_defer()).ok()?;
        let left = expiry.as_ms().cast_signed() - Tick::now().as_ms().cast_signed();
        let change = Change::Expiry(Some(UnixMs::now().plus(left)));
        let entries = self.entries(vec![Deferred { mapping, key: key.clone(), change }]).ok()?;
        let begin = || {
            self.memory.peek(&key).filter(|entry| entry.expires_at() == expiry)?;
            let lays = |appending: &Appending| self.memory.overlay.put(mapping, &key, &appending.entries);
            Some(journal.begin_append(entries).inspect(lays))
        };
        let begun = self.memory.unless_written(&key, begin).flatten()?;
        Some((key, begun))
    }

    /// Waits until a renewal is on disk; one that does not get there lies over no record any more.
    async fn end_renewal(
        &self,
        journal: &Journal,
        key: &Bytes,
        begun: Result<Appending, JournalError>,
    ) -> Result<(), JournalError> {
        let appending = begun?;
        let entries = appending.entries.clone();
        let appended = journal.appended(appending).await;
        appended.map(drop).inspect_err(|_| self.memory.overlay.settle(key, &entries))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MOST_WAITING, Renewal, Renewals};
    use crate::keys::MappingId;
    use crate::telemetry::Metrics;
    use crate::telemetry::clock::Tick;

    #[test]
    fn renewals_beyond_those_that_may_wait_are_dropped_and_counted() {
        let ((renewals, mut receiver), metrics) = (Renewals::new(), Metrics::default().write_behind);
        let renewal =
            |ms| Renewal { mapping: MappingId::default(), key: Bytes::from_static(b"k"), expiry: Tick::from_ms(ms) };
        (0..MOST_WAITING as u64 + 10).for_each(|ms| renewals.add(renewal(ms), &metrics));
        assert_eq!((receiver.len(), metrics.renewals_dropped.get()), (65_536, 10));
        assert!(receiver.try_recv().is_ok());
        renewals.add(renewal(0), &metrics);
        assert_eq!((receiver.len(), metrics.renewals_dropped.get()), (65_536, 10), "there was room again");
    }
}
