//! Inserts whole records of keys that have no row, in one transaction, and takes them back.

use bytes::Bytes;

use super::Sqlite;
use crate::record::Record;
use crate::store::adopt::living;
use crate::store::{Adopted, Foreign, Inserted, Plan, StoreError};

impl Sqlite {
    pub(in crate::store) async fn adopt(
        &self,
        plan: &Plan,
        foreign: &[Foreign],
        origin: &str,
    ) -> Result<Vec<Adopted>, StoreError> {
        let mut transaction = self.begin(Some(origin)).await?;
        let mut told = Vec::with_capacity(foreign.len());
        for one in foreign {
            told.push(match transaction.adopt(plan, one).await {
                Ok(Some(record)) => Adopted::Inserted(Inserted { record, by: None }),
                Ok(None) => Adopted::There,
                // Nothing of the others is left either.
                Err(error) if transaction.is_undone() || error.is_final() => return Err(error),
                Err(error) => Adopted::Refused(error),
            });
        }
        transaction.commit().await?;
        Ok(told)
    }

    pub(in crate::store) async fn retract(
        &self,
        plan: &Plan,
        inserted: &[(Bytes, Inserted)],
        origin: &str,
    ) -> Result<Vec<bool>, StoreError> {
        let mut transaction = self.begin(Some(origin)).await?;
        let mut told = Vec::with_capacity(inserted.len());
        for (key, one) in inserted {
            told.push(transaction.retract(plan, key, &one.record).await?);
        }
        transaction.commit().await?;
        Ok(told)
    }

    pub(in crate::store) async fn records(
        &self,
        plan: &Plan,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            records.push(living(plan.record(key, self.rows_of(plan, key).await?)?));
        }
        Ok(records)
    }
}
