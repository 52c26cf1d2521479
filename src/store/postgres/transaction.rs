//! A Postgres transaction over several keys, with a savepoint before each write.

use std::sync::Arc;

use sqlx::{Connection as _, Postgres, Transaction};

use super::params::{self, Bound};
use super::questions::Questions;
use super::rows::{parse_all, select};
use super::sessions::Sessions;
use super::spelling::{Spelling, is_to_be_asked, spelling};
use super::touched::Touched;
use super::write::Writer;
use crate::record::{Record, RowEdit, Written};
use crate::store::standing::KnownStanding;
use crate::store::{Plan, StoreError};

#[derive(Debug)]
pub(in crate::store) struct PostgresTransaction {
    pub(super) open: Transaction<'static, Postgres>,
    pub(super) sessions: Sessions,
    /// For questions about a refusal, which a failed transaction cannot be asked.
    pub(super) questions: Questions,
    pub(super) standing: Arc<KnownStanding>,
    pub(super) origin: String,
    pub(super) touched: Touched,
}

impl PostgresTransaction {
    pub(in crate::store) async fn write(
        &mut self,
        plan: &Plan,
        key: &[u8],
        edit: RowEdit<'_>,
    ) -> Result<Written, StoreError> {
        self.touched.add(key);
        let mut savepoint = self.open.begin().await?;
        let (sessions, questions, origin) = (&self.sessions, &self.questions, &self.origin);
        let mut writer = Writer { connection: &mut savepoint, sessions, questions, origin, commits_each: false };
        let written = writer.write(plan, key, edit).await;
        self.standing.note(&written);
        match &written {
            Ok(_) => savepoint.commit().await?,
            Err(error) if error.is_final() => {}
            Err(_) => savepoint.rollback().await?,
        }
        written.map_err(|error| match error {
            // What of it went through has been rolled back.
            StoreError::Partly(_) => StoreError::suppressed(),
            // Without its COMMIT nothing is true.
            StoreError::Ambiguous(why) => StoreError::Unavailable(why),
            other => other,
        })
    }

    pub(in crate::store) async fn load(&mut self, plan: &Plan, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.touched.add(key);
        let Some(bound) = params::bind(plan, key) else { return Ok(None) };
        // The statement would fail, and the transaction with it.
        if !self.is_value(plan, &bound).await? {
            return Ok(None);
        }
        let rows = select(&mut *self.open, &self.sessions, &plan.one, &bound).await?;
        plan.record(key, parse_all(&rows)?)
    }

    /// Whether a key can be one of its columns'. The transaction itself asks, within a savepoint: whoever waited for a
    /// connection of another kind here would hold this one meanwhile.
    async fn is_value(&mut self, plan: &Plan, bound: &[Bound]) -> Result<bool, StoreError> {
        if !is_to_be_asked(plan, bound) {
            return Ok(true);
        }
        let mut savepoint = self.open.begin().await?;
        let spelled = spelling(&mut *savepoint, self.sessions.keep_statements(), plan, bound).await?;
        match spelled {
            Spelling::NoValue => savepoint.rollback().await?,
            Spelling::Own | Spelling::Other => savepoint.commit().await?,
        }
        Ok(spelled != Spelling::NoValue)
    }

    pub(in crate::store) async fn commit(self) -> Result<(), StoreError> {
        let Self { open, touched, .. } = self;
        let committed = open.commit().await.map_err(StoreError::of_write);
        drop(touched);
        committed
    }

    pub(in crate::store) async fn roll_back(self) -> Result<(), StoreError> {
        Ok(self.open.rollback().await?)
    }
}
