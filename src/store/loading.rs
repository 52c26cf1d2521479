//! Loads of keys: those of a mapping that are wanted at the same moment share a statement of Postgres. In SQLite a
//! statement costs no round trip, and each key has its own. Knows no statement.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::MutexGuard;

use super::bulkhead::{Admitted, Work};
use super::key_line::Wanted;
use super::row::Row;
use super::shared_loads::{BackgroundTurn, Batch, Lead};
use super::urgency::Urgency;
use super::{Engine, Plan, Postgres, Store, StoreError};
use crate::record::Record;

/// Keys that have waited for too long are refused together, so far apart.
const TOGETHER: Duration = Duration::from_millis(10);

/// How long it may take to find out whether a table is locked.
const LOOK: Duration = Duration::from_secs(1);

impl Store {
    /// Loads the record of one key; `None` when there is no such row, or when the row's own key is spelled otherwise
    /// (hazard 29). One that has ended by its row is told too, with nothing left of its life.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Open`] at once while the breaker is open.
    pub async fn load(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        key: &Bytes,
        urgency: &Arc<Urgency>,
    ) -> Result<Option<Record>, StoreError> {
        let rows = match &self.engine {
            Engine::Postgres(_) => self.rows_of(plan, key, urgency).await,
            Engine::Sqlite(store) => {
                self.bulkhead.run(plan, Work::Load, StoreError::Unavailable, store.rows_of(plan, key)).await
            }
            Engine::Away(away) => Err(away.error()),
        };
        plan.record(key, rows?)
    }

    /// How many keys of a mapping are best asked for together: so many go by one statement, if it comes to all of them
    /// in time.
    #[must_use]
    pub fn keys_of_a_statement(&self, plan: &Plan) -> usize {
        self.shared_loads.most(plan)
    }

    /// Waits until a load may begin: of those of SQLite that nobody waits for one goes at a time, as long as what is
    /// returned is held. That they wait for each other is no trouble of the store's.
    pub async fn may_begin(&self, urgency: &Urgency) -> Option<MutexGuard<'_, ()>> {
        if !matches!(self.engine, Engine::Sqlite(_)) {
            return None;
        }
        tokio::select! {
            biased;
            () = urgency.comes() => None,
            only = self.background.lock() => Some(only),
        }
    }

    async fn rows_of(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        key: &Bytes,
        urgency: &Arc<Urgency>,
    ) -> Result<Vec<Row>, StoreError> {
        let (wanted, mut answer) = Wanted::new(plan, key, urgency);
        let was_urgent = urgency.is_urgent();
        self.begin_to_lead(self.shared_loads.join(vec![wanted]));
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = urgency.comes(), if !was_urgent => {
                self.begin_to_lead(self.shared_loads.hasten(plan));
                answer.await
            }
        };
        answered.unwrap_or_else(|_| Err(StoreError::Unavailable("the load was given up".into())))
    }

    /// Begins to lead a line of keys where nobody does.
    fn begin_to_lead(self: &Arc<Self>, lead: Option<Lead>) {
        if let Some(lead) = lead {
            // A task of its own: it goes on when the load that began it is given up.
            tokio::spawn(self.clone().lead(lead));
        }
    }

    /// Has the next keys of a line read when it is their turn, and leaves those behind them to another task.
    fn lead(self: Arc<Self>, mut lead: Lead) -> BoxFuture<'static, ()> {
        async move {
            while let Some(plan) = lead.next(self.settings.queue_timeout) {
                let rest = lead.rest(self.settings.load_pause);
                if !rest.is_zero() {
                    let soon = lead.until_refusal(self.settings.queue_timeout).max(TOGETHER);
                    tokio::time::sleep(rest.min(soon)).await;
                    continue;
                }
                match self.turn(&plan, &mut lead).await {
                    Some(Ok(admitted)) => return self.read_next(admitted, lead).await,
                    // Who has waited for so long is refused next.
                    Some(Err(StoreError::Overloaded(_))) => {}
                    Some(Err(error)) => lead.refuse(&error),
                    None => return,
                }
            }
        }
        .boxed()
    }

    /// Waits for a turn to read the next keys of a line, and refuses meanwhile who has waited for too long; `None` when
    /// nobody waits any more.
    async fn turn(&self, plan: &Plan, lead: &mut Lead) -> Option<Result<Admitted, StoreError>> {
        let patience = self.settings.queue_timeout;
        let concerned = [plan];
        let mut turn = pin!(self.bulkhead.admit(&concerned, Work::Load));
        loop {
            let soon = lead.until_refusal(patience).max(TOGETHER);
            match tokio::time::timeout(soon, &mut turn).await {
                Ok(admitted) => return Some(admitted),
                Err(_) => drop(lead.next(patience)?),
            }
        }
    }

    async fn read_next(self: Arc<Self>, admitted: Admitted, mut lead: Lead) {
        // Whoever wants a key at this moment has asked for it before this goes on.
        let mut count = 0;
        while count < lead.count() {
            count = lead.count();
            tokio::task::yield_now().await;
        }
        let batch = lead.take();
        if lead.next(self.settings.queue_timeout).is_some() {
            tokio::spawn(self.clone().lead(lead));
        }
        self.read(admitted, batch).await;
    }

    /// Reads keys of one plan.
    async fn read(self: &Arc<Self>, admitted: Admitted, Batch { keys, turn }: Batch) {
        let (Engine::Postgres(store), [first, ..]) = (&self.engine, &keys[..]) else { return };
        let plan = first.plan.clone();
        let rows = admitted.run(&plan, StoreError::Unavailable, rows_of_each(store, &plan, &keys)).await;
        drop(admitted);
        self.give(store, &plan, keys, rows).await;
        self.begin_to_lead(turn.and_then(BackgroundTurn::end));
    }

    /// Gives each key its rows. Those to which the statement has not come are read later.
    async fn give(
        self: &Arc<Self>,
        store: &Postgres,
        plan: &Arc<Plan>,
        keys: Vec<Wanted>,
        rows: Result<Vec<Option<Vec<Row>>>, StoreError>,
    ) {
        let shared = &self.shared_loads;
        match rows {
            Ok(rows) => {
                let (count, mut left) = (keys.len(), Vec::new());
                for (wanted, rows) in keys.into_iter().zip(rows) {
                    match rows {
                        Some(rows) => wanted.answer(Ok(rows)),
                        None => left.push(wanted),
                    }
                }
                shared.came_to(plan, count - left.len(), count);
                self.begin_to_lead(shared.join_again(left));
            }
            Err(error) if keys.len() > 1 && may_be_of_one(&error) && !is_of_all(store, plan, &error).await => {
                self.begin_to_lead(shared.join(keys.into_iter().map(Wanted::alone).collect()));
            }
            Err(error) => keys.into_iter().for_each(|wanted| wanted.answer(Err(error.clone()))),
        }
    }
}

/// The rows of each key; `None` where the statement has not come to it.
async fn rows_of_each(store: &Postgres, plan: &Plan, wanted: &[Wanted]) -> Result<Vec<Option<Vec<Row>>>, StoreError> {
    let keys: Vec<&[u8]> = wanted.iter().map(|wanted| &*wanted.key).collect();
    wanted.iter().for_each(|wanted| wanted.urgency.is_sent(keys.len()));
    if let Some(replicas) = store.replicas().filter(|_| wanted.iter().all(|wanted| wanted.urgency.may_be_of_standby()))
        && let Some((rows, as_of)) = replicas.rows_of(plan, &keys).await
    {
        wanted.iter().for_each(|wanted| wanted.urgency.is_as_of(as_of));
        return Ok(rows);
    }
    let rows = match keys[..] {
        [one] => store.rows_of(plan, one).await.map(|rows| vec![Some(rows)]),
        _ => store.rows_of_each(plan, &keys).await,
    };
    store.touched(keys);
    rows
}

/// True of a statement that took too long because it waits for the lock of a table: so does that of each key. A lock of
/// one partition, or of what a function reads, holds up only those keys whose rows are there.
async fn is_of_all(store: &Postgres, plan: &Plan, error: &StoreError) -> bool {
    let is_late = matches!(error, StoreError::Overloaded(_));
    is_late && tokio::time::timeout(LOOK, store.is_locked(plan)).await.unwrap_or(true)
}

/// True of what one key may have done to a statement that reads several: its text is no value, it takes long, its row
/// is being changed.
const fn may_be_of_one(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Refused(_)
            | StoreError::Data(_)
            | StoreError::Overloaded(_)
            | StoreError::Transient(_)
            | StoreError::Conflict
    )
}
