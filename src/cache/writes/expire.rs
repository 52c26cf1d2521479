//! EXPIRE and related commands on a key that expires by a column of its row: a deferred write of that column.

use std::sync::Arc;

use bytes::Bytes;

use super::Writer;
use crate::cache::memory::loads::WriteTurn;
use crate::cache::source::Cached;
use crate::keys::MappingId;
use crate::record::{Edit, ExpireCommand, ReadError, Record, TtlChange};
use crate::store::StoreError;
use crate::telemetry::clock::Tick;

/// What a command about a key's expiry found and did.
#[derive(Clone, Debug)]
pub struct ExpireOutcome {
    /// The record; `None`: there is no such key.
    pub record: Option<Record>,
    /// Its new expiry; `None`: it has not changed.
    pub life: Result<Option<TtlChange>, ReadError>,
}

impl Writer {
    /// One of these commands. It has queued when this returns; the future only waits.
    pub(crate) fn expire(
        self: &Arc<Self>,
        id: MappingId,
        key: &Bytes,
        command: ExpireCommand,
    ) -> impl Future<Output = Result<ExpireOutcome, StoreError>> + use<> {
        let (writer, mut turn) = (self.clone(), self.memory.queue_one(key));
        let task = self.runtime.spawn(async move {
            writer.memory.handover.opened().await;
            let cached = writer.memory.source.known(id)?;
            turn.comes().await;
            writer.expire_now(cached, turn, &command).await
        });
        async move { task.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the write was given up".into()))) }
    }

    /// One command whose turn it is.
    async fn expire_now(
        &self,
        cached: &Cached,
        turn: WriteTurn,
        command: &ExpireCommand,
    ) -> Result<ExpireOutcome, StoreError> {
        let (epoch, id) = (cached.epoch(), cached.mapping().id);
        let Some(record) = self.known(cached, turn.key(), turn.before.as_ref()).await? else {
            let absent = Arc::new(cached.life.entry(None, id, epoch, Tick::now()));
            self.memory.end_unchanged(turn, Some(absent));
            return Ok(ExpireOutcome { record: None, life: Ok(None) });
        };
        let loaded_at = turn.before.as_ref().map_or_else(Tick::now, |entry| entry.loaded_at);
        let life = cached.life_of(command, record.left);
        match &life {
            Ok(Some(TtlChange::Left(left))) if *left <= 0 => {
                self.write_now(cached, turn, &Edit::Delete, TtlChange::Keep).await?;
            }
            Ok(Some(life @ (TtlChange::Left(_) | TtlChange::Persist))) => {
                self.write_behind.journal_life(cached, turn.key(), *life).await?;
                let new = self.memory.overlay.over(turn.key(), Some(record.clone()));
                let entry = Arc::new(cached.life.entry_at(new, id, epoch, loaded_at, Tick::now()));
                self.memory.end(turn, Some(entry));
            }
            _ => self.memory.undo(turn),
        }
        Ok(ExpireOutcome { record: Some(record), life })
    }
}
