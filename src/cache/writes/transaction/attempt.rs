//! Runs the steps of a transaction in one transaction of the store, and again if other transactions were in conflict
//! with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Work;
use super::steps::{Act, AllDone, Done, Step};
use crate::cache::writes::expire::ExpireOutcome;
use crate::keys::MappingId;
use crate::record::{Edit, ExpireCommand, Record, RowEdit, TtlChange, Written};
use crate::store::{Plan, StoreError, StoreTransaction};

/// A transaction that was in conflict with others has done nothing and begins again, at most so many times.
const ATTEMPTS: usize = 5;

impl Work {
    /// Does every step; `None` when a watched key has changed.
    ///
    /// # Errors
    /// The store's; nothing has been done then.
    pub(super) async fn prepare(&self, origin: &str) -> Result<Option<(StoreTransaction, AllDone)>, StoreError> {
        let snapshot = !self.watched.is_empty();
        for attempt in 1.. {
            let plans = self.plans();
            match self.attempt(origin, snapshot, &plans).await {
                Err(StoreError::Schema(_)) if attempt < ATTEMPTS && self.replan(&plans).await => {}
                // What was watched was changed between the look at it and the write.
                Err(StoreError::Conflict) if snapshot => return Ok(None),
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
                other => return other,
            }
        }
        Ok(None)
    }

    /// The plans of its mappings, for one attempt; or why there is none.
    fn plans(&self) -> Plans {
        let mappings = self.steps.iter().map(|step| step.mapping);
        let mappings: HashSet<_> = mappings.chain(self.watched.iter().map(|watched| watched.mapping)).collect();
        let plan = |id: MappingId| self.source().known(id).and_then(|cached| cached.current.plan());
        mappings.into_iter().map(|id| (id, plan(id))).collect()
    }

    /// Some statement did not fit the schema: all plans are made again. True when another attempt is worth while.
    async fn replan(&self, plans: &Plans) -> bool {
        let mut is_worth = false;
        for (id, plan) in plans {
            if let (Ok(plan), Some(cached)) = (plan, self.source().cached(*id)) {
                is_worth |= cached.replan_after(&self.source().store, plan).await.unwrap_or(false);
            }
        }
        is_worth
    }

    async fn attempt(
        &self,
        origin: &str,
        snapshot: bool,
        plans: &Plans,
    ) -> Result<Option<(StoreTransaction, AllDone)>, StoreError> {
        let first =
            self.first().ok_or_else(|| StoreError::Refused("the transaction concerns no cached mapping".into()))?;
        first.current.plan()?;
        let concerned: Vec<&Plan> = plans.values().flatten().map(|plan| &**plan).collect();
        let open = self.source().store.begin(&concerned, origin, snapshot).await?;
        let mut attempt = Attempt { work: self, plans, open, lives: HashMap::new() };
        if attempt.has_watched_changed().await? {
            self.writer.roll_back(attempt.open).await;
            return Ok(None);
        }
        match attempt.run_steps().await {
            Ok(done) => Ok(Some((attempt.open, done))),
            Err(error @ StoreError::Schema(_)) => {
                self.writer.roll_back(attempt.open).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The plan of each mapping.
type Plans = HashMap<MappingId, Result<Arc<Plan>, StoreError>>;

/// One attempt, in a transaction of the store.
struct Attempt<'w> {
    work: &'w Work,
    plans: &'w Plans,
    open: StoreTransaction,
    /// The milliseconds that keys have to live from now on, of those whose expiry it has changed; `None`: they do not
    /// expire.
    lives: HashMap<Bytes, Option<i64>>,
}

impl Attempt<'_> {
    async fn has_watched_changed(&mut self) -> Result<bool, StoreError> {
        for watched in &self.work.watched {
            let now = self.load(watched.mapping, &watched.key).await?;
            if watched.has_changed(self.work.source(), now.as_ref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn run_steps(&mut self) -> Result<AllDone, StoreError> {
        let mut done = self.work.nothing_done();
        for step in &self.work.steps {
            done.push(match &step.act {
                Act::Read => Done::Read(self.load(step.mapping, &step.key).await?),
                Act::ChangeTtl(command) => Done::TtlChanged(self.change_ttl(step, command).await?),
                Act::Write(write) => match self.write(step, &write.edit, write.life).await {
                    Err(error) if self.must_end(&error) => return Err(error),
                    written => {
                        self.note_life(step, &written, write.life);
                        Done::Written(written)
                    }
                },
            })?;
        }
        Ok(done)
    }

    /// True when the transaction cannot, or is not to, go on after a write that failed so.
    fn must_end(&self, error: &StoreError) -> bool {
        error.is_final() || matches!(error, StoreError::Schema(_)) || self.open.is_undone()
    }

    /// What a write makes of a key's expiry, for the commands behind it.
    fn note_life(&mut self, step: &Step, written: &Result<Written, StoreError>, asked: TtlChange) {
        let (Ok(written), Ok(cached)) = (written, self.work.source().known(step.mapping)) else { return };
        match cached.life_after(asked, written.old.is_none()).filter(|_| written.applied) {
            _ if written.new.is_none() => drop(self.lives.remove(&step.key)),
            Some(TtlChange::Left(left)) => drop(self.lives.insert(step.key.clone(), Some(left))),
            Some(TtlChange::Persist) => drop(self.lives.insert(step.key.clone(), None)),
            Some(TtlChange::Keep) | None => {}
        }
    }

    /// EXPIRE and related commands on what the transaction sees.
    async fn change_ttl(&mut self, step: &Step, command: &ExpireCommand) -> Result<ExpireOutcome, StoreError> {
        let cached = self.work.source().known(step.mapping)?;
        let Some(record) = self.load(step.mapping, &step.key).await? else {
            return Ok(ExpireOutcome { record: None, life: Ok(None) });
        };
        let left = self.lives.get(&step.key).copied().unwrap_or(record.left);
        let life = cached.life_of(command, left);
        match &life {
            Ok(Some(TtlChange::Left(left))) if *left <= 0 => {
                self.write(step, &Edit::Delete, TtlChange::Keep).await?;
                self.lives.remove(&step.key);
            }
            Ok(Some(TtlChange::Left(left))) => drop(self.lives.insert(step.key.clone(), Some(*left))),
            Ok(Some(TtlChange::Persist)) => drop(self.lives.insert(step.key.clone(), None)),
            _ => {}
        }
        Ok(ExpireOutcome { record: Some(record), life })
    }

    async fn write(&mut self, step: &Step, edit: &Edit, asked: TtlChange) -> Result<Written, StoreError> {
        let plan = self.plan(step.mapping)?;
        let cached = self.work.source().known(step.mapping)?;
        cached.may_live(asked)?;
        let lives = self.lives.get(&step.key).is_some_and(|left| left.is_none_or(|left| left > 0));
        let row = RowEdit { lives, ..cached.row_edit(edit, asked) };
        let mut written = self.open.write(&plan, &step.key, row).await?;
        if matches!(edit, Edit::Members(_, false)) && written.count > 0 && self.work.writer.memory.is_heard() {
            // The statement does not say whether some are left.
            (written.new, written.tells_new) = (self.open.load(&plan, &step.key).await?, true);
        }
        let overlay = &self.work.writer.memory.overlay;
        written.old = overlay.over(&step.key, written.old.take());
        written.new = overlay.over(&step.key, written.new.take());
        Ok(written)
    }

    fn plan(&self, mapping: MappingId) -> Result<Arc<Plan>, StoreError> {
        self.plans.get(&mapping).cloned().unwrap_or_else(|| self.work.source().known(mapping)?.current.plan())
    }

    async fn load(&mut self, mapping: MappingId, key: &Bytes) -> Result<Option<Record>, StoreError> {
        let (plan, memory) = (self.plan(mapping)?, &self.work.writer.memory);
        // A key that is written has no deferred change that waits; one that is only read may have.
        let waiting = memory.overlay.of(key);
        let record = self.open.load(&plan, key).await?;
        Ok(memory.lay_over(key, waiting, record))
    }
}
