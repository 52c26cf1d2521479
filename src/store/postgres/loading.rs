//! Loads over lent connections: the rows of one key, or of several by one statement. A read may be sent again.

use sqlx::postgres::Postgres as Driver;
use sqlx::{Decode, Type};

use super::Postgres;
use super::conflict::goes_again;
use super::key_connections::{answered, has_died};
use super::params::{self, Bound};
use super::rows::{fetch, parse_all};
use super::spelling::{Spelling, is_about_a_text, spelling};
use crate::store::row::Row;
use crate::store::{Plan, StoreError};

impl Postgres {
    /// The rows of one key; none when a part of the key cannot be a value of its column.
    pub(in crate::store) async fn rows_of(&self, plan: &Plan, key: &[u8]) -> Result<Vec<Row>, StoreError> {
        let Some(bound) = params::bind(plan, key) else { return Ok(Vec::new()) };
        let mut sent = 0;
        loop {
            let rows = self.rows_once(plan, &bound).await;
            sent += 1;
            if !goes_again(&rows, sent).await {
                return rows;
            }
        }
    }

    async fn rows_once(&self, plan: &Plan, bound: &[Bound]) -> Result<Vec<Row>, StoreError> {
        match self.ask(&plan.one, bound).await? {
            Ok(texts) => parse_all(&texts),
            Err(error) if is_about_a_text(&error) => self.none_if_no_value(plan, bound, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// No rows where the key's text is what the error is about: it is no value of its column, so that none has it.
    async fn none_if_no_value(&self, plan: &Plan, bound: &[Bound], error: sqlx::Error) -> Result<Vec<Row>, StoreError> {
        let mut lent = self.lender.lend().await?;
        let mut unit = self.sessions.enter(&mut lent.connection).await?;
        let spelled = spelling(&mut *unit, self.sessions.keep_statements(), plan, bound).await;
        let spelled = unit.leave(spelled, |error| error).await;
        match answered(spelled, lent)? {
            Spelling::NoValue => Ok(Vec::new()),
            Spelling::Own | Spelling::Other => Err(error.into()),
        }
    }

    /// The rows of each of these keys, in the same order, of a plan that reads several; `None` for keys to which the
    /// statement has not come in time, which are never all of them.
    pub(in crate::store) async fn rows_of_each(
        &self,
        plan: &Plan,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<Row>>>, StoreError> {
        let bound: Vec<Option<Vec<Bound>>> = keys.iter().map(|key| params::bind(plan, key)).collect();
        let values: Vec<&Vec<Bound>> = bound.iter().flatten().collect();
        let texts: Vec<Option<Vec<String>>> = match values.is_empty() {
            true => Vec::new(),
            false => self.ask(&plan.several, &params::arrays(&plan.params, &values)).await??,
        };
        let mut texts = texts.into_iter();
        let rows = |bound: &Option<Vec<Bound>>| match bound {
            Some(_) => texts.next().flatten().map(|texts| parse_all(&texts)).transpose(),
            None => Ok(Some(Vec::new())),
        };
        bound.iter().map(rows).collect()
    }

    /// The server's plan of the statement of one key; none where a part of the key cannot be a value of its column.
    pub(in crate::store) async fn explain(&self, plan: &Plan, key: &[u8]) -> Result<Vec<String>, StoreError> {
        let Some(bound) = params::bind(plan, key) else { return Ok(Vec::new()) };
        Ok(self.ask(&format!("EXPLAIN {}", plan.one), &bound).await??)
    }

    /// True while the server cannot even read the statement of one key, because somebody has locked a table that it
    /// names, or because it is not there.
    pub(in crate::store) async fn is_locked(&self, plan: &Plan) -> bool {
        let read = async { self.catalog().await?.describe(&plan.one).await };
        matches!(read.await, Err(StoreError::Overloaded(_) | StoreError::Unavailable(_)))
    }

    /// What a statement selects, or its own error. A read may be sent again.
    async fn ask<T>(&self, sql: &str, bound: &[Bound]) -> Result<Result<Vec<T>, sqlx::Error>, StoreError>
    where
        T: for<'r> Decode<'r, Driver> + Type<Driver> + Send + Unpin,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut lent = self.lender.lend().await?;
            match answered(fetch(&self.sessions, &mut lent.connection, sql, bound).await, lent) {
                // Connections may have died unnoticed, all of them at once.
                Err(error) if has_died(&error) && attempt <= self.lender.most() => {
                    tracing::debug!(%error, "a store connection was dead; the load is tried again");
                }
                result => return Ok(result),
            }
        }
    }
}
