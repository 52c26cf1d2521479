//! Copies some keys: those that the store has no row for are read at the upstream and inserted.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;

use super::settling::Unsettled;
use super::side::{Theirs, theirs};
use super::{Import, ORIGIN, Trouble};
use crate::record::Record;
use crate::store::{Adopted, Foreign};
use crate::upstream::KeyServer;

const NO_COLUMN: &str = "it ends (it has a TTL), and the mapping has no expires_column to say when: name one, or copy \
    it without its end (--forget-ttl)";

const OTHER_TYPE: &str = "it is of another type at the upstream than the mapping's";

impl Import<'_> {
    /// Copies those of these keys that the store has not.
    pub(super) async fn keys(&mut self, server: &mut KeyServer, keys: &[Bytes]) -> Result<(), Trouble> {
        let texts: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let ours = self.ends.store.records(self.ends.plan, &texts).await?;
        let (there, missing): (Vec<_>, Vec<_>) = keys.iter().cloned().zip(ours).partition(|(_, ours)| ours.is_some());
        self.report.there += there.len() as u64;
        if self.wishes.compares_all {
            let (now, known) = (Instant::now(), self.unsettled.iter().map(|one| one.key.clone()));
            let known: HashSet<Bytes> = known.collect();
            let found = there.into_iter().filter(|(key, _)| !known.contains(key));
            self.unsettled.extend(found.map(|(key, _)| Unsettled::found(key, now)));
        }
        let missing: Vec<Bytes> = missing.into_iter().map(|(key, _)| key).collect();
        for some in missing.chunks(self.batch()) {
            self.wait_for_turn(some.len()).await;
            if self.stop.is_cancelled() {
                break;
            }
            self.copy(server, some).await?;
            self.settle(server, false).await?;
            self.show(0);
        }
        Ok(())
    }

    async fn copy(&mut self, server: &mut KeyServer, keys: &[Bytes]) -> Result<(), Trouble> {
        let read = theirs(server, self.mapping().config.shape, keys).await?;
        let asked = Instant::now();
        let mut foreign: Vec<Foreign> = Vec::with_capacity(keys.len());
        for (key, theirs) in keys.iter().zip(read) {
            match theirs {
                Theirs::Has(record) => foreign.extend(self.ending(key, record).map(|record| (key.clone(), record))),
                Theirs::Nothing => self.report.vanished += 1,
                Theirs::OtherType => self.report.refused.add(key, OTHER_TYPE),
                Theirs::Elsewhere => self.has_missed = true,
            }
        }
        if self.wishes.is_dry {
            return self.would_copy(&foreign);
        }
        for (_, record) in &mut foreign {
            record.left = record.left.map(|left| (left - asked.elapsed().as_millis() as i64).max(1));
        }
        let told = self.ends.store.adopt(self.ends.plan, &foreign, ORIGIN).await?;
        for ((key, _), told) in foreign.into_iter().zip(told) {
            match told {
                Adopted::Inserted(inserted) => {
                    self.report.copied += 1;
                    self.unsettled.push(Unsettled::copied(key, inserted, asked));
                }
                Adopted::There => self.report.there += 1,
                Adopted::Refused(error) => {
                    self.report.refused.add(&key, &error.to_string());
                    if error.is_of_the_moment() {
                        self.try_again();
                    }
                }
            }
        }
        Ok(())
    }

    /// The record with the end that its row will have; none of one whose end has no place.
    fn ending(&mut self, key: &Bytes, record: Record) -> Option<Record> {
        let has_column = self.mapping().config.expires_column.is_some();
        match record.left {
            Some(_) if !has_column && !self.wishes.forgets_ends => {
                self.report.refused.add(key, NO_COLUMN);
                None
            }
            Some(_) if !has_column => Some(record.living(None)),
            _ => Some(record),
        }
    }

    fn would_copy(&mut self, foreign: &[Foreign]) -> Result<(), Trouble> {
        for (key, record) in foreign {
            match self.ends.plan.fits(record) {
                Ok(()) => self.report.copied += 1,
                Err(error) => self.report.refused.add(key, &error.to_string()),
            }
        }
        Ok(())
    }
}
