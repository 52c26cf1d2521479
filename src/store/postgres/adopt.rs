//! Inserts whole records of keys that have no row, says what became of each, and takes back what was inserted. A list
//! is pushed by its mapping's statement.

use bytes::Bytes;
use sqlx::{PgConnection, Transaction};

use super::Postgres;
use super::adoption::{Adoption, Trouble};
use super::conflict::goes_again;
use super::explain::Failed;
use super::params::bind;
use super::push;
use super::rows::{parse_all, select};
use super::spelling::{Spelling, is_about_a_text, spelling};
use super::write::{NO_KEY, OTHER_SPELLING, Writer, doubt};
use crate::record::{Record, Shape};
use crate::store::adopt::{Adopted, Foreign, Inserted, changes, living, pulled, pushed};
use crate::store::{Plan, StoreError};

/// What was done is so from now on; where it was not, nothing is.
async fn committed<T>(done: Result<T, Trouble>, transaction: Transaction<'_, sqlx::Postgres>) -> Result<T, StoreError> {
    let done = done?;
    transaction.commit().await.map(|()| done).map_err(StoreError::of_write)
}

impl Postgres {
    pub(in crate::store) async fn adopt(
        &self,
        plan: &Plan,
        foreign: &[Foreign],
        origin: &str,
    ) -> Result<Vec<Adopted>, StoreError> {
        if foreign.iter().any(|(key, _)| bind(plan, key).is_none()) {
            return Err(StoreError::Refused(NO_KEY.into()));
        }
        let (mut sent, origin) = (0, self.feeds().origin(origin));
        let inserted = loop {
            let inserted = self.adopt_once(plan, foreign, &origin).await;
            sent += 1;
            if !goes_again(&inserted, sent).await {
                self.touched(foreign.iter().map(|(key, _)| &key[..]));
                break self.noted(inserted)?;
            }
        };
        let (mut told, mut left) = (Vec::with_capacity(foreign.len()), Vec::new());
        for (at, inserted) in inserted.into_iter().enumerate() {
            told.push(inserted.map_or(Adopted::There, Adopted::Inserted));
            if matches!(told[at], Adopted::There) {
                left.push(at);
            }
        }
        // A list was looked at in its transaction.
        if !left.is_empty() && plan.mapping.config.shape != Shape::List {
            let others: Vec<Foreign> = left.iter().map(|at| foreign[*at].clone()).collect();
            let judged = self.judge(plan, &others, &origin).await;
            left.iter().zip(judged).for_each(|(at, judged)| told[*at] = judged);
        }
        Ok(told)
    }

    /// Runs statements in a transaction of their own.
    async fn adopt_once(
        &self,
        plan: &Plan,
        foreign: &[Foreign],
        origin: &str,
    ) -> Result<Vec<Option<Inserted>>, StoreError> {
        let mut transaction = self.sessions.begin(&self.pool.pool(), false).await?;
        let keep = self.sessions.keep_statements();
        let mut desk = Adoption { connection: &mut transaction, plan, origin, keep };
        let inserted = match plan.mapping.config.shape {
            Shape::Hash | Shape::String => desk.rows(foreign).await,
            Shape::Set => desk.sets(foreign).await,
            Shape::List => self.adopt_list(&mut desk, foreign).await,
        };
        match inserted {
            Ok(inserted) => transaction.commit().await.map(|()| inserted).map_err(StoreError::of_write),
            Err(trouble) => {
                // Where this fails too, the connection is gone, and the transaction with it.
                let _ = transaction.rollback().await;
                Err(self.explain_trouble(plan, foreign, trouble).await)
            }
        }
    }

    /// Which field of the only record a refusal is about; of several that is asked when one is left.
    async fn explain_trouble(&self, plan: &Plan, foreign: &[Foreign], trouble: Trouble) -> StoreError {
        let error = match (trouble, foreign) {
            (Trouble::Store(error), _) => return error,
            (Trouble::Driver(error), [(key, record)]) => {
                let bound = bind(plan, key).unwrap_or_default();
                if is_about_a_text(&error)
                    && let Ok(asking) = self.questions.turn().await
                    && let Ok(Spelling::NoValue) = spelling(asking.pool(), true, plan, &bound).await
                {
                    return StoreError::Refused(NO_KEY.into());
                }
                let changes = changes(record);
                if let (Ok(target), Ok(places)) = (plan.target(), plan.places(&changes)) {
                    return Failed { questions: &self.questions, target, changes: &places }.explain(error).await;
                }
                error
            }
            (Trouble::Driver(error), _) => error,
        };
        StoreError::of_write(error)
    }

    /// Pushes the elements of a list that has none.
    async fn adopt_list(&self, desk: &mut Adoption<'_>, foreign: &[Foreign]) -> Result<Vec<Option<Inserted>>, Trouble> {
        desk.lock(foreign).await?;
        let mut inserted = Vec::with_capacity(foreign.len());
        for (key, record) in foreign {
            let bound = bind(desk.plan, key).unwrap_or_default();
            let rows: Vec<String> = select(&mut *desk.connection, &self.sessions, &desk.plan.one, &bound).await?;
            if desk.plan.record(key, parse_all(&rows)?)?.is_some() {
                inserted.push(None);
                continue;
            }
            let mut writer = self.writer(&mut *desk.connection, desk.origin);
            let written = push::write(&mut writer, desk.plan, key, &pushed(record)).await?;
            inserted.push(Some(Inserted { record: written.new.unwrap_or_else(|| record.clone()), by: None }));
        }
        Ok(inserted)
    }

    fn writer<'w>(&'w self, connection: &'w mut PgConnection, origin: &'w str) -> Writer<'w> {
        let (sessions, questions) = (&self.sessions, &self.questions);
        Writer { connection, sessions, questions, origin, commits_each: false }
    }

    /// What became of records that were not inserted. What cannot be asked now is refused: others were inserted.
    async fn judge(&self, plan: &Plan, foreign: &[Foreign], origin: &str) -> Vec<Adopted> {
        match self.judge_each(plan, foreign, origin).await {
            Ok(judged) => judged,
            Err(error) => foreign.iter().map(|_| Adopted::Refused(error.clone())).collect(),
        }
    }

    /// A row was there, be it one that has expired, which goes; or something of the table's has kept them out.
    async fn judge_each(&self, plan: &Plan, foreign: &[Foreign], origin: &str) -> Result<Vec<Adopted>, StoreError> {
        let doubt = doubt(&self.questions, plan.target()?).await?;
        let (inserted, taken) = self.bury_and_adopt(plan, foreign, origin, doubt.is_some()).await?;
        let keys: Vec<&[u8]> = foreign.iter().map(|(key, _)| &key[..]).collect();
        let shown = self.records(plan, &keys).await?;
        let mut judged = Vec::with_capacity(foreign.len());
        for ((number, key), (inserted, shown)) in (1..).zip(keys).zip(inserted.into_iter().zip(shown)) {
            judged.push(match (inserted, shown, &doubt) {
                (Some(inserted), ..) => Adopted::Inserted(inserted),
                (None, Some(_), _) => Adopted::There,
                (None, None, _) if !taken.contains(&number) => Adopted::Refused(self.kept_out(plan, key).await),
                (None, None, Some(doubt)) => Adopted::Refused(StoreError::Refused(doubt.clone())),
                (None, None, None) => Adopted::There,
            });
        }
        Ok(judged)
    }

    /// Deletes rows that have expired, inserts the records again, and looks which keys have a row.
    async fn bury_and_adopt(
        &self,
        plan: &Plan,
        foreign: &[Foreign],
        origin: &str,
        in_doubt: bool,
    ) -> Result<(Vec<Option<Inserted>>, Vec<i64>), StoreError> {
        let mut transaction = self.sessions.begin(&self.pool.pool(), false).await?;
        let keep = self.sessions.keep_statements();
        let mut desk = Adoption { connection: &mut transaction, plan, origin, keep };
        let done = async {
            let inserted = match desk.bury(foreign, in_doubt).await? {
                0 => vec![None; foreign.len()],
                _ => desk.rows(foreign).await?,
            };
            Ok((inserted, desk.taken(foreign).await?))
        };
        committed(done.await, transaction).await
    }

    /// Why a key has no row although its record was inserted.
    async fn kept_out(&self, plan: &Plan, key: &[u8]) -> StoreError {
        let bound = bind(plan, key).unwrap_or_default();
        let Ok(asking) = self.questions.turn().await else { return StoreError::suppressed() };
        match spelling(asking.pool(), true, plan, &bound).await {
            Ok(Spelling::Other) => StoreError::Refused(OTHER_SPELLING.into()),
            _ => StoreError::suppressed(),
        }
    }

    pub(in crate::store) async fn records(
        &self,
        plan: &Plan,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        while records.len() < keys.len() {
            let rest = &keys[records.len()..];
            let rows = match plan.reads_several() {
                true => self.rows_of_each(plan, rest).await?,
                false => vec![Some(self.rows_of(plan, rest[0]).await?)],
            };
            // The statement has not come to the others.
            for (key, rows) in rest.iter().zip(rows).map_while(|(key, rows)| Some((key, rows?))) {
                records.push(living(plan.record(key, rows)?));
            }
        }
        Ok(records)
    }

    pub(in crate::store) async fn retract(
        &self,
        plan: &Plan,
        inserted: &[(Bytes, Inserted)],
        origin: &str,
    ) -> Result<Vec<bool>, StoreError> {
        let origin = self.feeds().origin(origin);
        let mut transaction = self.sessions.begin(&self.pool.pool(), false).await?;
        let keep = self.sessions.keep_statements();
        let mut desk = Adoption { connection: &mut transaction, plan, origin: &origin, keep };
        let gone = match plan.mapping.config.shape {
            Shape::List => self.retract_lists(&mut desk, inserted).await,
            Shape::Hash | Shape::String | Shape::Set => desk.retract(inserted).await,
        };
        let gone = committed(gone, transaction).await;
        self.touched(inserted.iter().map(|(key, _)| &key[..]));
        let gone = self.noted(gone)?;
        Ok((1..).zip(inserted).map(|(number, _)| gone.contains(&number)).collect())
    }

    /// Takes the elements out of lists that are as they were; those of a mapping without a statement for that stay.
    async fn retract_lists(
        &self,
        desk: &mut Adoption<'_>,
        inserted: &[(Bytes, Inserted)],
    ) -> Result<Vec<i64>, Trouble> {
        let mut gone = Vec::new();
        for (number, (key, one)) in (1..).zip(inserted) {
            let bound = bind(desk.plan, key).unwrap_or_default();
            let rows: Vec<String> = select(&mut *desk.connection, &self.sessions, &desk.plan.one, &bound).await?;
            let now = desk.plan.record(key, parse_all(&rows)?)?;
            if now.as_ref() != Some(&one.record) || desk.plan.list.remove.is_none() {
                continue;
            }
            for edit in pulled(&one.record) {
                let mut writer = self.writer(&mut *desk.connection, desk.origin);
                push::write(&mut writer, desk.plan, key, &edit).await?;
            }
            gone.push(number);
        }
        Ok(gone)
    }
}
