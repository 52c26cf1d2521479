//! Whole records of keys that the store has no row for, as somebody else had them: they are inserted, many by one
//! statement, unless somebody has written a row of the key meanwhile. Knows no engine, nor where they come from.
//!
//! What was inserted can be taken back as long as nobody has written to it since.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::bulkhead::Work;
use super::{Engine, Plan, Store, StoreError};
use crate::record::{Change, Edit, Record, Shape};

/// A key, and the record that it had elsewhere. Its `left` is how long the key still lives, where the mapping keeps
/// that in a column.
pub type Foreign = (Bytes, Record);

/// What became of one of them.
#[derive(Clone, Debug)]
pub enum Adopted {
    /// It is in the store now.
    Inserted(Inserted),
    /// The store had a row for the key: nothing has changed.
    There,
    /// The store does not take it: nothing has changed.
    Refused(StoreError),
}

/// What was inserted.
#[derive(Clone, Debug)]
pub struct Inserted {
    /// The record as the store shows it.
    pub record: Record,
    /// The transaction that has inserted the rows, where the store notes that in each row.
    pub(super) by: Option<String>,
}

/// Refuses what a mapping cannot take.
const NOT_ITS_SHAPE: &str = "the value is of another type than the mapping's";

const NO_PUSH: &str = "the mapping has no table that it writes to, and no push statement";

impl Plan {
    /// Refuses a mapping into which nothing can be inserted.
    ///
    /// # Errors
    /// [`StoreError::Refused`] says what it lacks.
    pub fn may_adopt(&self) -> Result<(), StoreError> {
        let has_way = match self.mapping.config.shape {
            Shape::List => self.list.push.is_some(),
            Shape::Hash | Shape::String | Shape::Set => self.mapping.config.writes_table() && self.target.is_some(),
        };
        if has_way { Ok(()) } else { Err(StoreError::Refused(NO_PUSH.into())) }
    }

    /// Refuses a record that is known not to fit, without asking the store.
    ///
    /// # Errors
    /// [`StoreError`] says why.
    pub fn fits(&self, record: &Record) -> Result<(), StoreError> {
        if record.shape() != self.mapping.config.shape || record.is_empty() {
            return Err(StoreError::Refused(NOT_ITS_SHAPE.into()));
        }
        match record.shape() {
            Shape::Hash | Shape::String => changes(record).iter().try_for_each(|(field, change)| match change {
                Change::Put(value) => self.check(field, value),
                _ => Ok(()),
            }),
            Shape::Set => {
                let column = self.member_column()?.name.clone();
                record.named_parts().try_for_each(|(_, member)| self.check(column.as_bytes(), member))
            }
            Shape::List => Ok(()),
        }
    }
}

/// The fields of a hash, or the one of a string, as they are put.
pub(super) fn changes(record: &Record) -> Vec<(Bytes, Change)> {
    let is_hash = record.shape() == Shape::Hash;
    let put = |(name, value): (&[u8], &[u8])| {
        let name = if is_hash { Bytes::copy_from_slice(name) } else { Bytes::new() };
        (name, Change::Put(Bytes::copy_from_slice(value)))
    };
    record.named_parts().map(put).collect()
}

/// The members of a set, or elements of a list.
pub(super) fn members(record: &Record) -> Vec<Bytes> {
    record.named_parts().map(|(_, part)| Bytes::copy_from_slice(part)).collect()
}

/// The elements of a list, as they are pushed.
pub(super) fn pushed(record: &Record) -> Edit {
    Edit::Push(members(record))
}

/// How the elements of a list are taken out again, in their order.
pub(super) fn pulled(record: &Record) -> Vec<Edit> {
    members(record).into_iter().map(|element| Edit::Pull(1, element)).collect()
}

impl Store {
    /// Inserts each of these records if the store has no row for its key, and says of each whether it did; a row that
    /// has ended counts as none. A field that a record does not have is NULL then, or what its column has by default if
    /// it may not be NULL. `origin` comes back with the notices.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked: some may have been inserted, and doing it again does no harm.
    pub async fn adopt(&self, plan: &Plan, foreign: &[Foreign], origin: &str) -> Result<Vec<Adopted>, StoreError> {
        plan.may_adopt()?;
        let unfit = foreign.iter().map(|(_, record)| plan.fits(record).err().map(Adopted::Refused));
        let mut adopted: Vec<Option<Adopted>> = unfit.collect();
        let fits = |at: &usize| adopted[*at].is_none();
        let fitting: Vec<usize> = (0..foreign.len()).filter(fits).collect();
        // One list is one transaction.
        let most = if plan.mapping.config.shape == Shape::List { 1 } else { fitting.len().max(1) };
        for some in fitting.chunks(most) {
            let chosen: Vec<Foreign> = some.iter().map(|at| foreign[*at].clone()).collect();
            let told = self.adopt_some(plan, &chosen, origin).await?;
            some.iter().zip(told).for_each(|(at, told)| adopted[*at] = Some(told));
        }
        Ok(adopted.into_iter().flatten().collect())
    }

    /// Inserts some by one statement; which of them it was that the store does not take is found by halving.
    fn adopt_some<'s>(
        &'s self,
        plan: &'s Plan,
        foreign: &'s [Foreign],
        origin: &'s str,
    ) -> BoxFuture<'s, Result<Vec<Adopted>, StoreError>> {
        async move {
            let adopting = async {
                match &self.engine {
                    Engine::Postgres(store) => store.adopt(plan, foreign, origin).await,
                    Engine::Sqlite(store) => store.adopt(plan, foreign, origin).await,
                    Engine::Away(away) => Err(away.error()),
                }
            };
            match self.bulkhead.run(plan, Work::Batch, StoreError::Ambiguous, adopting).await {
                Err(error) if may_be_about_one(&error) && foreign.len() == 1 => Ok(vec![Adopted::Refused(error)]),
                Err(error) if may_be_about_one(&error) && foreign.len() > 1 => {
                    let (first, second) = foreign.split_at(foreign.len() / 2);
                    let mut told = self.adopt_some(plan, first, origin).await?;
                    told.extend(self.adopt_some(plan, second, origin).await?);
                    Ok(told)
                }
                told => told,
            }
        }
        .boxed()
    }

    /// Takes back what was inserted, of each key to which nobody has written since; says of each whether it did.
    ///
    /// # Errors
    /// [`StoreError`]; doing it again does no harm.
    pub async fn retract(
        &self,
        plan: &Plan,
        inserted: &[(Bytes, Inserted)],
        origin: &str,
    ) -> Result<Vec<bool>, StoreError> {
        let retracting = async {
            match &self.engine {
                Engine::Postgres(store) => store.retract(plan, inserted, origin).await,
                Engine::Sqlite(store) => store.retract(plan, inserted, origin).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Batch, StoreError::Ambiguous, retracting).await
    }

    /// The records of these keys; one that has ended is none.
    ///
    /// # Errors
    /// As a load.
    pub async fn records(&self, plan: &Plan, keys: &[&[u8]]) -> Result<Vec<Option<Record>>, StoreError> {
        let reading = async {
            match &self.engine {
                Engine::Postgres(store) => store.records(plan, keys).await,
                Engine::Sqlite(store) => store.records(plan, keys).await,
                Engine::Away(away) => Err(away.error()),
            }
        };
        self.bulkhead.run(plan, Work::Load, StoreError::Unavailable, reading).await
    }
}

/// True of an error that another record may not meet: nothing has changed.
const fn may_be_about_one(error: &StoreError) -> bool {
    error.is_about_a_record() || matches!(error, StoreError::Transient(_))
}

/// A record that has not ended.
pub(super) fn living(record: Option<Record>) -> Option<Record> {
    record.filter(|record| !record.has_ended())
}
