//! Keys that end by a column of their row: EXPIRE and its kin, and renewals by reads, are deferred writes of that column.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cache::{Cache, Cached};
use crate::record::{Edit, ExpireCommand, ReadError, Record, TtlChange};
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::telemetry::clock::{now_ms, unix_ms};

/// The name of the journal's field that says when a key ends: milliseconds since 1970, none if it does not.
pub(crate) const ENDS: &[u8] = b"\0ends";

/// A read that started a key's life anew: its mapping, and when it ends by the process's clock.
pub(crate) type Renewal = (usize, Bytes, u64);

/// What a command about a key's end found and did.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The record; `None`: there is no such key.
    pub record: Option<Record>,
    /// What became of its life; `None`: nothing.
    pub life: Result<Option<TtlChange>, ReadError>,
}

impl Cached {
    /// The life that a write leaves, where the mapping's keys end by a column; `None`: as it was.
    pub(crate) fn life_after(&self, asked: TtlChange, is_new: bool) -> Option<TtlChange> {
        let block = &self.mapping.config;
        block.expires_column.as_ref()?;
        let whole = block.ttl.map(|ttl| TtlChange::Left(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
        match asked {
            TtlChange::Left(_) => Some(asked),
            _ if block.renew && whole.is_some() => whole,
            TtlChange::Persist => Some(TtlChange::Persist),
            // A row without values was no key, and neither was its end.
            TtlChange::Keep if is_new => Some(whole.unwrap_or(TtlChange::Persist)),
            TtlChange::Keep => None,
        }
    }
}

impl Cache {
    /// Journals when a key ends; it lies over every record from now on.
    ///
    /// # Errors
    /// The journal's.
    pub(in crate::cache) async fn journal_life(
        &self,
        cached: &Cached,
        key: &Bytes,
        life: TtlChange,
    ) -> Result<(), StoreError> {
        let (Some(journal), Some(value)) = (&self.journal, ends_at(life)) else { return Ok(()) };
        self.journal_all(journal, vec![(cached.mapping.id.index(), key.clone(), Bytes::from_static(ENDS), value)]).await
    }

    /// True when keys of the mapping end by a column.
    #[must_use]
    pub fn ends(&self, id: usize) -> bool {
        self.cached(id).is_some_and(|cached| cached.mapping.config.expires_column.is_some())
    }

    /// EXPIRE and its kin on a key that ends by its column. It has queued when this returns; the future only waits.
    pub fn expire(
        self: &Arc<Self>,
        id: usize,
        key: &Bytes,
        lifetime: ExpireCommand,
    ) -> impl Future<Output = Result<Ended, StoreError>> + use<> {
        let (cache, mut right) = (self.clone(), self.queue_one(key));
        let task = self.runtime.spawn(async move {
            cache.gate.opened().await;
            let cached = cache.known_mapping(id)?;
            cache.take_turn(&mut right).await;
            let epoch = cached.epoch();
            let (record, loaded_at) = match cache.known(cached, right.key(), right.before.as_ref()).await {
                Ok(Some(record)) => (record, right.before.as_ref().map_or_else(now_ms, |entry| entry.loaded_at)),
                Ok(None) => {
                    let absent = Arc::new(cached.life.entry(None, id, epoch, now_ms()));
                    cache.end(right, Some(absent));
                    return Ok(Ended { record: None, life: Ok(None) });
                }
                Err(error) => return Err(error),
            };
            let life = lifetime.of_left(record.left);
            match &life {
                Ok(Some(TtlChange::Left(ended))) if *ended <= 0 => {
                    cache.write_now(cached, right, &Edit::Delete, TtlChange::Keep).await?;
                }
                Ok(Some(life @ (TtlChange::Left(_) | TtlChange::Persist))) => {
                    cache.journal_life(cached, right.key(), *life).await?;
                    let new = cache.overlay.over(right.key(), Some(record.clone()));
                    let entry = Arc::new(cached.life.entry_at(new, id, epoch, loaded_at, now_ms()));
                    cache.end(right, Some(entry));
                }
                _ => {
                    let before = right.before.take();
                    cache.end(right, before);
                }
            }
            Ok(Ended { record: Some(record), life })
        });
        async move { task.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the write was given up".into()))) }
    }

    /// Journals renewals by reads, many at once, for ever. Nobody waits for them.
    pub async fn renew_for_ever(self: Arc<Self>) {
        let Some(mut renewals) = self.renewed.lock().await.take() else { return };
        loop {
            let mut some = Vec::new();
            if renewals.recv_many(&mut some, 4096).await == 0 {
                return;
            }
            self.journal_renewals(some).await;
        }
    }

    async fn journal_renewals(&self, renewals: Vec<Renewal>) {
        let Some(journal) = &self.journal else { return };
        // What has been given another end, or has gone, meanwhile is not renewed.
        let holds = |(_, key, end): &Renewal| self.shelf.get(key).is_some_and(|entry| entry.ends_at() == *end);
        let (now, unix) = (now_ms(), unix_ms());
        let deadline = |end: u64| unix + (end as i64 - now as i64);
        let wait = |(id, key, end)| (id, key, Bytes::from_static(ENDS), Some(deadline(end).to_string().into()));
        let waits = renewals.into_iter().filter(holds).map(wait).collect();
        if let Err(error) = self.journal_all(journal, waits).await {
            tracing::warn!(%error, "renewals by reads are not journaled");
        }
    }

    /// Removes rows that ended longer than `grace` ago, in small batches; how many. A mapping whose rows cannot be
    /// removed does not keep those of the others.
    ///
    /// # Errors
    /// The store's, with how many were removed all the same.
    pub async fn sweep(&self, grace: Duration) -> (u64, Result<(), StoreError>) {
        let (mut total, mut failed) = (0, Ok(()));
        for cached in self.mappings.iter().flatten() {
            loop {
                match self.store.sweep(&cached.plan, grace.as_secs_f64()).await {
                    Ok(0) => break,
                    Ok(swept) => total += swept,
                    Err(error) => {
                        failed = Err(error);
                        break;
                    }
                }
            }
        }
        (total, failed)
    }

    /// Starts the life of a key that was read anew where its mapping says so.
    pub(crate) fn renewed(&self, id: usize, key: &[u8], end: u64) {
        add(&self.renewals, (id, Bytes::copy_from_slice(key), end), &self.metrics);
    }
}

/// One more renewal that waits, unless too many do: the journal is far behind then, and the next read of the key renews it.
fn add(renewals: &mpsc::Sender<Renewal>, renewal: Renewal, metrics: &Metrics) {
    // The receiver ends with the process.
    if renewals.try_send(renewal).is_err() {
        metrics.renewals_dropped.inc();
    }
}

/// The journal's value of a life; `None`: nothing is to be written.
pub(crate) fn ends_at(life: TtlChange) -> Option<Option<Bytes>> {
    match life {
        TtlChange::Keep => None,
        TtlChange::Persist => Some(None),
        TtlChange::Left(left) => Some(Some(unix_ms().saturating_add(left).to_string().into())),
    }
}

/// The milliseconds that a journaled end is away.
pub(crate) fn left_of(value: Option<&Bytes>) -> Option<i64> {
    let deadline: i64 = std::str::from_utf8(value?).ok()?.parse().ok()?;
    Some(deadline - unix_ms())
}

/// Most renewals by reads that wait to be journaled.
const MOST_WAITING: usize = 65_536;

pub(crate) fn channel() -> (mpsc::Sender<Renewal>, mpsc::Receiver<Renewal>) {
    mpsc::channel(MOST_WAITING)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MOST_WAITING, add, channel};
    use crate::telemetry::Metrics;

    #[test]
    fn renewals_beyond_those_that_may_wait_are_dropped_and_counted() {
        let ((sender, mut receiver), metrics) = (channel(), Metrics::default());
        (0..MOST_WAITING as u64 + 10).for_each(|end| add(&sender, (0, Bytes::from_static(b"k"), end), &metrics));
        assert_eq!((receiver.len(), metrics.renewals_dropped.get()), (65_536, 10));
        assert!(receiver.try_recv().is_ok());
        add(&sender, (0, Bytes::from_static(b"k"), 0), &metrics);
        assert_eq!((receiver.len(), metrics.renewals_dropped.get()), (65_536, 10), "there was room again");
    }
}
