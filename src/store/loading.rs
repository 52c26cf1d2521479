//! Loads of keys: those of a mapping that are wanted at the same moment share a statement of Postgres. In SQLite a
//! statement costs no round trip, and each key has its own. Knows no statement.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::bulkhead::{Admitted, Work};
use super::row::Row;
use super::shared_loads::{Lead, Wanted};
use super::{Engine, Plan, Postgres, Store, StoreError};
use crate::record::Record;

impl Store {
    /// Loads the record of one key; `None` when there is no such row, or when the row's own key is spelled otherwise
    /// (hazard 29).
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Open`] at once while the breaker is open.
    pub async fn load(self: &Arc<Self>, plan: &Arc<Plan>, key: &Bytes) -> Result<Option<Record>, StoreError> {
        let rows = match &self.engine {
            Engine::Postgres(_) => self.rows_of(plan, key).await,
            Engine::Sqlite(store) => {
                self.bulkhead.run(plan, Work::Load, StoreError::Unavailable, store.rows_of(plan, key)).await
            }
            Engine::Away(away) => Err(away.error()),
        };
        plan.record(key, rows?)
    }

    async fn rows_of(self: &Arc<Self>, plan: &Arc<Plan>, key: &Bytes) -> Result<Vec<Row>, StoreError> {
        let (wanted, answer) = Wanted::new(plan, key);
        self.begin_to_lead(self.shared_loads.join(vec![wanted]));
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the load was given up".into())))
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
                    tokio::time::sleep(rest).await;
                }
                match self.bulkhead.admit(&[&plan], Work::Load).await {
                    Ok(admitted) => return self.read_next(admitted, lead).await,
                    // Who has waited for so long is refused next.
                    Err(StoreError::Overloaded(_)) => {}
                    Err(error) => lead.refuse(&error),
                }
            }
        }
        .boxed()
    }

    async fn read_next(self: Arc<Self>, admitted: Admitted, mut lead: Lead) {
        // Whoever wants a key at this moment has asked for it before this goes on.
        let mut count = 0;
        while count < lead.count() {
            count = lead.count();
            tokio::task::yield_now().await;
        }
        let keys = lead.take();
        if lead.next(self.settings.queue_timeout).is_some() {
            tokio::spawn(self.clone().lead(lead));
        }
        self.read(admitted, keys).await;
    }

    /// Reads keys of one plan, and gives each its rows. Those to which the statement has not come are read later.
    async fn read(self: &Arc<Self>, admitted: Admitted, keys: Vec<Wanted>) {
        let (Engine::Postgres(store), [first, ..]) = (&self.engine, &keys[..]) else { return };
        let plan = first.plan.clone();
        let rows = admitted.run(&plan, StoreError::Unavailable, rows_of_each(store, &plan, &keys)).await;
        drop(admitted);
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
                shared.came_to(&plan, count - left.len(), count);
                self.begin_to_lead(shared.join_again(left));
            }
            Err(error) if keys.len() > 1 && may_be_of_one(&error) => {
                self.begin_to_lead(shared.join(keys.into_iter().map(Wanted::alone).collect()));
            }
            Err(error) => keys.into_iter().for_each(|wanted| wanted.answer(Err(error.clone()))),
        }
    }
}

/// The rows of each key; `None` where the statement has not come to it.
async fn rows_of_each(store: &Postgres, plan: &Plan, keys: &[Wanted]) -> Result<Vec<Option<Vec<Row>>>, StoreError> {
    match keys {
        [one] => Ok(vec![Some(store.rows_of(plan, &one.key).await?)]),
        several => {
            let keys: Vec<&[u8]> = several.iter().map(|wanted| &*wanted.key).collect();
            store.rows_of_each(plan, &keys).await
        }
    }
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
