//! Compares what was copied with what both sides have now, and takes back what the application has deleted meanwhile.
//!
//! A key that has gone from the upstream behind its insertion is not to come back: its row is removed, if nobody has
//! written to it since. A difference counts only if a second look finds the same value at the upstream: else somebody
//! was writing.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::side::{Theirs, theirs};
use super::{Import, ORIGIN, Trouble};
use crate::record::Record;
use crate::store::Inserted;
use crate::telemetry::planted::is_planted;
use crate::upstream::KeyServer;

/// The pauses behind looks that find another difference than the look before.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// So many are looked at, at once, and so many fields of one key are listed.
const MOST: usize = 500;
const FIELDS: usize = 20;

/// A key that is to be compared.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) key: Bytes,
    /// What was inserted; nothing of a key that the store had before.
    inserted: Option<Inserted>,
    /// What the upstream had at the last look.
    before: Option<Theirs>,
    looks: usize,
    due: Instant,
}

impl Unsettled {
    pub(super) const fn copied(key: Bytes, inserted: Inserted, due: Instant) -> Self {
        Self { key, inserted: Some(inserted), before: None, looks: 0, due }
    }

    pub(super) const fn found(key: Bytes, due: Instant) -> Self {
        Self { key, inserted: None, before: None, looks: 0, due }
    }

    /// It was inserted by this import.
    pub(super) const fn is_copied(&self) -> bool {
        self.inserted.is_some()
    }

    fn judge(&self, theirs: &Theirs, ours: Option<&Record>) -> Verdict {
        let is_as_inserted = |inserted: &Inserted| ours.is_some_and(|ours| Record::same(ours, &inserted.record));
        match theirs {
            Theirs::Elsewhere => Verdict::Elsewhere,
            Theirs::Nothing => Verdict::Gone,
            Theirs::Has(theirs) if ours.is_some_and(|ours| Record::same(theirs, ours)) => Verdict::Same,
            _ if self.inserted.as_ref().is_some_and(|inserted| !is_as_inserted(inserted)) => Verdict::Changed,
            theirs if self.before.as_ref() == Some(theirs) || self.looks >= PAUSES.len() => Verdict::Different,
            _ => Verdict::Again,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// The upstream has it no more.
    Gone,
    /// Somebody has written to the store since.
    Changed,
    /// As before.
    Different,
    /// For the first time: somebody may be writing.
    Again,
    /// Another server has it.
    Elsewhere,
}

impl Import<'_> {
    /// Looks at what is due; with `all`, until nothing is left that this server has.
    pub(super) async fn settle(&mut self, server: &mut KeyServer, all: bool) -> Result<(), Trouble> {
        let mut elsewhere = Vec::new();
        let settled = self.settle_here(server, all, &mut elsewhere).await;
        self.unsettled.append(&mut elsewhere);
        settled
    }

    async fn settle_here(
        &mut self,
        server: &mut KeyServer,
        all: bool,
        elsewhere: &mut Vec<Unsettled>,
    ) -> Result<(), Trouble> {
        loop {
            let now = Instant::now();
            self.unsettled.sort_by_key(|one| one.due);
            let due = self.unsettled.partition_point(|one| one.due <= now).min(MOST);
            if due == 0 {
                match self.unsettled.first() {
                    Some(first) if all => tokio::time::sleep_until(first.due.into()).await,
                    _ => return Ok(()),
                }
                continue;
            }
            let some: Vec<Unsettled> = self.unsettled.drain(..due).collect();
            if let Err((trouble, some)) = self.look(server, some, elsewhere).await {
                self.unsettled.extend(some);
                return Err(trouble);
            }
            self.show(0);
        }
    }

    /// Looks at both sides of some keys; gives them back where one cannot be asked.
    async fn look(
        &mut self,
        server: &mut KeyServer,
        some: Vec<Unsettled>,
        elsewhere: &mut Vec<Unsettled>,
    ) -> Result<(), (Trouble, Vec<Unsettled>)> {
        let keys: Vec<Bytes> = some.iter().map(|one| one.key.clone()).collect();
        let (theirs, ours) = match self.sides(server, &keys).await {
            Ok(sides) => sides,
            Err(trouble) => return Err((trouble, some)),
        };
        let mut gone = Vec::new();
        for ((mut one, theirs), ours) in some.into_iter().zip(theirs).zip(ours) {
            match one.judge(&theirs, ours.as_ref()) {
                Verdict::Same => self.report.equal += 1,
                Verdict::Changed => self.report.changed += 1,
                Verdict::Different => self.report_difference(&one.key, &theirs, ours.as_ref()),
                Verdict::Elsewhere => elsewhere.push(one),
                Verdict::Gone => gone.push(one),
                Verdict::Again => {
                    one.due = Instant::now() + PAUSES[one.looks];
                    (one.looks, one.before) = (one.looks + 1, Some(theirs));
                    self.unsettled.push(one);
                }
            }
        }
        if !self.runs.contains(&server.run) && !gone.is_empty() {
            let text = "keys that were copied are not at the upstream any more, whose server is another process than \
                the one that they were read from: their rows stay, because it may have lost them";
            tracing::warn!(keys = gone.len(), "{text}");
            return Ok(());
        }
        self.take_back(gone).await
    }

    async fn sides(
        &self,
        server: &mut KeyServer,
        keys: &[Bytes],
    ) -> Result<(Vec<Theirs>, Vec<Option<Record>>), Trouble> {
        let theirs = theirs(server, self.mapping().config.shape, keys).await?;
        let texts: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        Ok((theirs, self.ends.store.records(self.ends.plan, &texts).await?))
    }

    /// Removes what was inserted of keys that the upstream has no more.
    async fn take_back(&mut self, gone: Vec<Unsettled>) -> Result<(), (Trouble, Vec<Unsettled>)> {
        let inserted: Vec<(Bytes, Inserted)> =
            gone.iter().filter_map(|one| Some((one.key.clone(), one.inserted.clone()?))).collect();
        self.report.vanished += (gone.len() - inserted.len()) as u64;
        if inserted.is_empty() || is_planted("import-brings-back") {
            return Ok(());
        }
        match self.ends.store.retract(self.ends.plan, &inserted, ORIGIN).await {
            Ok(taken) => {
                let taken = taken.into_iter().filter(|taken| *taken).count() as u64;
                // The application may have made them anew behind the look.
                if taken > 0 {
                    self.try_again();
                }
                self.report.copied -= taken;
                self.report.vanished += taken;
                // Somebody has written to the others, which are theirs now.
                self.report.changed += inserted.len() as u64 - taken;
                Ok(())
            }
            Err(error) => Err((error.into(), gone)),
        }
    }

    fn report_difference(&mut self, key: &Bytes, theirs: &Theirs, ours: Option<&Record>) {
        let lines: Vec<String> = match (theirs, ours) {
            (Theirs::Has(theirs), Some(ours)) => {
                let differences = Record::differences(Some(theirs), Some(ours));
                let line = |it: &crate::record::Difference<'_>| format!("{}: {}", it.place(ours.shape()), it.words());
                differences.iter().take(FIELDS).map(line).collect()
            }
            (Theirs::Has(_), None) => vec!["the upstream has the key, the store has not".to_owned()],
            _ => vec!["the upstream has a value of another type".to_owned()],
        };
        self.report.different.add(key, &lines.join("; "));
    }
}
