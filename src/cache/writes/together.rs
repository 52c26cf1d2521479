//! EXPIRE and related commands that queue one behind the other, as those of a pipeline do: what a worker thread has
//! taken from its clients is looked at as a whole, and those that can go at once are journaled together. Each of the
//! others (it must wait, or ask the store, or changes nothing) has a task of its own.
//!
//! Invariants:
//! - whoever has queued is looked at when the client's task rests, or earlier;
//! - one is answered when its entry is on disk and in the overlay, and its turn has ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Writer;
use super::expire::{ExpireOutcome, ExpireResult};
use crate::cache::entry::Entry;
use crate::cache::memory::loads::WriteTurn;
use crate::cache::memory::overlay::end_of;
use crate::cache::write_behind::journalling::Deferred;
use crate::journal::{self, Appending};
use crate::keys::MappingId;
use crate::record::{ExpireCommand, TtlChange};
use crate::store::StoreError;
use crate::telemetry::clock::{Tick, UnixMs};

/// So many do not wait for more: the journal is written while a worker takes the next ones from a long pipeline.
const ENOUGH: usize = 256;

/// A command that has queued.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) mapping: MappingId,
    pub(super) turn: WriteTurn,
    pub(super) command: ExpireCommand,
    /// The one who asked, who may have left.
    pub(super) told: oneshot::Sender<ExpireResult>,
}

/// One thread's commands of one cache that nobody has looked at yet. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Together(Rc<RefCell<Vec<Queued>>>);

impl Together {
    /// One more; how many they are.
    fn add(&self, queued: Queued) -> usize {
        let mut all = self.0.borrow_mut();
        all.push(queued);
        all.len()
    }

    fn take(&self) -> Vec<Queued> {
        self.0.take()
    }
}

/// One that goes at once.
struct Going {
    queued: Queued,
    /// What was in memory of its key.
    entry: Arc<Entry>,
    life: TtlChange,
}

impl Writer {
    /// Takes in one more, and sees that it is looked at.
    pub(super) fn gather(self: &Arc<Self>, together: &Together, queued: Queued) {
        match together.add(queued) {
            1 => {
                let (writer, together) = (self.clone(), together.clone());
                tokio::task::spawn_local(async move {
                    writer.memory.handover.opened().await;
                    writer.begin_all(together.take());
                });
            }
            ENOUGH.. if self.memory.handover.is_open() => self.begin_all(together.take()),
            _ => {}
        }
    }

    /// Begins to journal those that can go at once, and whatever the others have to do.
    fn begin_all(self: &Arc<Self>, all: Vec<Queued>) {
        let (mut going, mut changes) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        let now = Tick::now();
        for queued in all {
            match self.goes_at_once(&queued, now) {
                Some((entry, life, change)) => {
                    going.push(Going { queued, entry, life });
                    changes.push(change);
                }
                None => self.begin_alone(queued),
            }
        }
        if going.is_empty() {
            return;
        }
        let entries = self.write_behind.entries(changes).ok();
        let begun =
            entries.zip(self.write_behind.journal.as_ref()).map(|(entries, journal)| journal.begin_append(entries));
        match begun {
            Some(Ok(appending)) => drop(self.runtime.spawn(self.clone().end_all(going, appending))),
            // There may be room for some of them: each hears what the journal says of it.
            _ => going.into_iter().for_each(|going| self.begin_alone(going.queued)),
        }
    }

    /// What is to be journaled for a command that waits for nothing, on a key that is in memory and whose end is not
    /// near.
    fn goes_at_once(&self, queued: &Queued, now: Tick) -> Option<(Arc<Entry>, TtlChange, Deferred)> {
        let Queued { mapping, turn, command, .. } = queued;
        let (cached, entry) = (self.memory.source.cached(*mapping)?, turn.present()?);
        let is_known = turn.is_next() && entry.record.is_some() && self.memory.is_usable(cached, entry, now);
        if !is_known || command.gives_value || !cached.expires_by_column() || cached.may_defer().is_err() {
            return None;
        }
        let left = entry.left(now).map(|left| left.as_millis() as i64);
        let life = cached.life_of(command, left).ok().flatten()?;
        let lives_on = matches!(life, TtlChange::Persist) || matches!(life, TtlChange::Left(left) if left > 0);
        let change = self.write_behind.expiry(cached, turn.key(), life)?;
        (lives_on && !self.is_near(left)).then(|| (entry.clone(), life, change))
    }

    fn begin_alone(self: &Arc<Self>, queued: Queued) {
        let (writer, Queued { mapping, turn, command, told }) = (self.clone(), queued);
        self.runtime.spawn(async move {
            let _left = told.send(writer.expire_alone(mapping, turn, &command).await);
        });
    }

    /// Ends those whose entries are on their way into the journal, when they are there. What they leave in memory is
    /// made ready meanwhile.
    async fn end_all(self: Arc<Self>, all: Vec<Going>, appending: Appending) {
        let Some(journal) = &self.write_behind.journal else { return };
        let now = (Tick::now(), UnixMs::now());
        let left: Vec<_> =
            all.iter().zip(&appending.entries).map(|(going, change)| self.prepare(going, change, now)).collect();
        let entries = match journal.appended(appending).await.map_err(StoreError::from) {
            Ok(entries) => entries,
            Err(error) => return all.into_iter().for_each(|going| self.fail(going.queued, &error)),
        };
        self.memory.overlay.put_each(all.iter().map(|going| going.queued.mapping).zip(entries));
        self.write_behind.wake_flusher();
        let mut ended = Vec::with_capacity(all.len());
        for (Going { queued: Queued { mut turn, told, .. }, life, .. }, left) in all.into_iter().zip(left) {
            turn.news = self.memory.news(turn.key(), || life.event().into_iter().collect());
            match left {
                Some(left) => self.memory.end_prepared(turn, left),
                None => self.memory.end(turn, None),
            }
            ended.push((told, life));
        }
        // A client waits for the first of its answers: when it is woken for that, it finds the others there, too.
        for (told, life) in ended.into_iter().rev() {
            let _left = told.send(Ok(ExpireOutcome { record: None, life: Ok(Some(life)) }));
        }
    }

    /// What is true of a key when its change is on disk. Its record in memory has all over it that waits.
    fn prepare(&self, going: &Going, change: &journal::Entry, (now, date): (Tick, UnixMs)) -> Option<Arc<Entry>> {
        let Going { queued: Queued { mapping, turn, .. }, entry, .. } = going;
        let cached = self.memory.source.cached(*mapping)?;
        let left = end_of(std::slice::from_ref(change)).flatten().map(|at| at.since(date));
        // Its value is that of before: nothing of it is copied each time that it lives longer.
        let record = entry.record.as_ref().map(|record| record.shared().living(left));
        // Of its epoch: what has been forgotten meanwhile stays so.
        let left = Arc::new(cached.life.entry_at(record, *mapping, entry.epoch, entry.loaded_at, now));
        self.memory.prepare(turn, &left);
        Some(left)
    }

    fn fail(&self, queued: Queued, error: &StoreError) {
        self.memory.end(queued.turn, None);
        // The one who asked may have left.
        let _left = queued.told.send(Err(error.clone()));
    }
}
