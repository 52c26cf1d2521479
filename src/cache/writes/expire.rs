//! EXPIRE and related commands on a key that expires by a column of its row: a deferred write of that column.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Writer;
use super::together::{Queued, Together};
use crate::cache::cause::Author;
use crate::cache::memory::loads::WriteTurn;
use crate::cache::source::Cached;
use crate::cache::write_behind::journalling::Deferred;
use crate::keys::MappingId;
use crate::record::{ExpireCommand, ReadError, Record, TtlChange, Write};
use crate::store::StoreError;
use crate::telemetry::clock::Tick;

/// What such a command ends with.
pub(super) type ExpireResult = Result<ExpireOutcome, StoreError>;

/// What a command about a key's expiry found and did.
#[derive(Clone, Debug)]
pub struct ExpireOutcome {
    /// The record, if there is such a key, and the command asks for it or it had to be looked at.
    pub record: Option<Record>,
    /// Its new expiry; `None`: it has not changed.
    pub life: Result<Option<TtlChange>, ReadError>,
}

/// A key that has been stored, and is given another expiry.
pub(super) struct Lasting<'l> {
    pub(super) key: &'l Bytes,
    /// Its record as the store has it; `None`: it has ended there.
    pub(super) record: &'l mut Option<Record>,
}

impl Writer {
    /// One of these commands. It has queued when this returns; the future only waits.
    pub(crate) fn expire(
        self: &Arc<Self>,
        together: &Together,
        (mapping, key): (MappingId, &Bytes),
        command: ExpireCommand,
        author: Option<Arc<Author>>,
    ) -> impl Future<Output = ExpireResult> + use<> {
        let (told, answer) = oneshot::channel();
        let mut turn = self.memory.queue_one(key);
        turn.author = author;
        let queued = Queued { mapping, turn, command, told };
        self.gather(together, queued);
        async move { answer.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the write was given up".into()))) }
    }

    /// One command in its own time.
    pub(super) async fn expire_alone(
        &self,
        mapping: MappingId,
        mut turn: WriteTurn,
        command: &ExpireCommand,
    ) -> ExpireResult {
        let cached = self.memory.source.known(mapping)?;
        turn.comes().await;
        self.expire_now(cached, turn, command).await
    }

    /// One command whose turn it is.
    async fn expire_now(&self, cached: &Cached, mut turn: WriteTurn, command: &ExpireCommand) -> ExpireResult {
        let (epoch, id) = (cached.epoch(), cached.mapping().id);
        let loaded_at = turn.present().map_or_else(Tick::now, |entry| entry.loaded_at);
        let Some(record) = self.known(cached, turn.key(), turn.present()).await? else {
            let absent = Arc::new(cached.life.entry(None, id, epoch, Tick::now()));
            self.memory.end_unchanged(turn, Some(absent));
            return Ok(ExpireOutcome { record: None, life: Ok(None) });
        };
        let life = cached.life_of(command, record.left);
        match &life {
            Ok(Some(TtlChange::Left(left))) if *left <= 0 => {
                Box::pin(self.write_now(cached, turn, &Write::delete())).await?;
            }
            Ok(Some(life @ (TtlChange::Left(_) | TtlChange::Persist))) => {
                if let Err(error) = cached.may_defer() {
                    self.memory.undo(turn);
                    return Err(error);
                }
                let expiry = self.write_behind.expiry(cached, turn.key(), *life);
                self.write_behind.journal_all(expiry.into_iter().collect()).await?;
                let new = self.memory.overlay.over(turn.key(), Some(record.clone()));
                self.hasten(turn.key(), record.left).await;
                let entry = Arc::new(cached.life.entry_at(new, id, epoch, loaded_at, Tick::now()));
                turn.news = self.memory.news(turn.key(), || life.event().into_iter().collect());
                self.memory.end(turn, Some(entry));
            }
            _ => self.memory.undo(turn),
        }
        Ok(ExpireOutcome { record: Some(record), life })
    }

    /// Journals the expiries of keys that have been stored, all or none; they lie over these records from now on.
    ///
    /// # Errors
    /// [`StoreError::Partly`].
    pub(super) async fn live_on(&self, expiries: Vec<Deferred>, keys: &mut [Lasting<'_>]) -> Result<(), StoreError> {
        let partly = |error| StoreError::Partly(format!("the value is stored, when the key expires is not: {error}"));
        self.write_behind.journal_all(expiries).await.map_err(partly)?;
        for Lasting { key, record } in keys {
            // The store would say of a key whose end is near that it has ended, until it knows better.
            let is_near = record.as_ref().is_none_or(|record| self.is_near(record.left));
            **record = self.memory.overlay.over(key, record.take());
            if is_near {
                self.write_behind.flush_key(key).await.map_err(partly)?;
            }
        }
        Ok(())
    }

    /// Saves at once what has been journaled of a key that had so many milliseconds to live, if that was near its end.
    /// The new expiry is in force, whether or not the store can be asked now.
    pub(super) async fn hasten(&self, key: &Bytes, left: Option<i64>) {
        if self.is_near(left)
            && let Err(error) = Box::pin(self.write_behind.flush_key(key)).await
        {
            tracing::debug!(%error, "an expiry waits for the store");
        }
    }

    /// True when a key with so many milliseconds to live may end before a statement does.
    pub(super) fn is_near(&self, left: Option<i64>) -> bool {
        left.is_some_and(|left| i128::from(left) <= self.memory.source.deadline.as_millis().cast_signed())
    }
}
