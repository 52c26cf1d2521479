//! A mapping in the mode `shadow`: the upstream answers, and what the mapping would have answered is compared with what
//! the upstream has, behind the client's back. Nobody waits for it.
//!
//! A difference counts only if a second look finds the same one: else somebody was writing, and one side was read
//! before that and the other one after it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fallback::{read_value, whole_value};
use super::{Owned, Services};
use crate::command::{Request, slot_of};
use crate::keys::MappingId;
use crate::mapping::Kind;
use crate::quota::Asker;
use crate::record::Record;
use crate::resp::{Proto, decode, encode};
use crate::route::Route;
use crate::session::Session;
use crate::telemetry::clock::{Tick, UnixMs};
use crate::telemetry::metrics::{Compared, Comparing, Mismatch, ShadowMetrics, WHOLE_KEY};
use crate::upstream::{Account, Batch, Group, Lane, To};

/// The pauses behind looks that find another difference than the look before.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// So many fields of one key are listed.
const FIELDS: usize = 20;

/// So many bytes of memory a value of the upstream may take: the client's own requests wait behind its reply.
const LARGEST: i64 = 1 << 20;

/// What is compared: one key.
struct Comparison {
    owned: Arc<Owned>,
    metrics: Arc<ShadowMetrics>,
    lane: Lane,
    to: To,
    mapping: MappingId,
    key: Bytes,
    /// It is one of those under way.
    _place: Comparing,
}

/// What one side has.
#[derive(Clone, Debug, PartialEq)]
enum Side {
    Has(Record),
    HasNothing,
    /// A value of another type.
    OtherType,
}

/// Why a key is not compared.
enum Uncompared {
    /// A side could not be asked.
    Silent,
    /// The upstream has more under it than [`LARGEST`].
    TooLarge,
}

/// What a look at both sides says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// As before.
    Different,
    /// For the first time: somebody may be writing.
    Again,
}

fn judge(before: Option<&(Side, Side)>, now: &(Side, Side)) -> Verdict {
    match now {
        (Side::Has(theirs), Side::Has(ours)) if Record::same(theirs, ours) => Verdict::Same,
        (Side::HasNothing, Side::HasNothing) => Verdict::Same,
        _ if before == Some(now) => Verdict::Different,
        _ => Verdict::Again,
    }
}

impl Services {
    /// Compares the keys of a read that passes through, of those mappings that are to be compared.
    #[cold]
    pub(super) fn shadow(&self, session: &Session, request: &Request<'_>, route: &Route) {
        let Some(spec) = session.spec.filter(|_| matches!(route, Route::PassThrough(true))) else { return };
        request.each_key(spec, |at| {
            let key = request.arg(at);
            if let Some(mapping) = self.router.shadowed(key)
                && let Some(place) = self.metrics.shadow.begin(key, session.now)
            {
                let group = Group { proto: Proto::Resp2, ..session.group.clone() };
                let comparison = Comparison {
                    owned: self.owned.clone(),
                    metrics: self.metrics.shadow.clone(),
                    lane: self.upstream.lane(&group, session.peer.id, &Rc::new(Account::default())),
                    to: if self.upstream.is_cluster() { To::Slot(slot_of(key)) } else { To::Home },
                    mapping,
                    key: Bytes::copy_from_slice(key),
                    _place: place,
                };
                tokio::task::spawn_local(comparison.run());
            }
        });
    }
}

impl Comparison {
    async fn run(self) {
        let (outcome, found) = match self.looks().await {
            Err(Uncompared::Silent) => (Compared::Failed, Vec::new()),
            Err(Uncompared::TooLarge) => (Compared::TooLarge, Vec::new()),
            Ok(None) => (Compared::Unsettled, Vec::new()),
            Ok(Some(found)) if found.is_empty() => (Compared::Equal, found),
            Ok(Some(found)) => (Compared::Different, found),
        };
        self.metrics.ended(self.name(), outcome, found);
    }

    fn name(&self) -> &str {
        self.owned.mappings.list[self.mapping.index()].pattern.text()
    }

    /// What differs, twice in a row; `None` if it is another thing each time.
    async fn looks(&self) -> Result<Option<Vec<Mismatch>>, Uncompared> {
        let mut before = None;
        for pause in PAUSES {
            let now = self.look().await?;
            match judge(before.as_ref(), &now) {
                Verdict::Same => return Ok(Some(Vec::new())),
                Verdict::Different => return Ok(Some(self.differences(&now))),
                Verdict::Again => before = Some(now),
            }
            tokio::time::sleep(pause).await;
        }
        Ok(None)
    }

    /// What the upstream has, and what the mapping would have shown.
    async fn look(&self) -> Result<(Side, Side), Uncompared> {
        Ok((self.theirs().await?, self.ours().await?))
    }

    async fn theirs(&self) -> Result<Side, Uncompared> {
        let shape = self.owned.mappings.list[self.mapping.index()].config.shape;
        let size =
            self.lane.submit(Batch::one(encode::request_of(&[&b"MEMORY"[..], b"USAGE", &self.key]), true).to(self.to));
        // A server that does not say it may be asked for the value all the same.
        if decode::integer(&size.whole().await.map_err(|_| Uncompared::Silent)?).is_some_and(|size| size > LARGEST) {
            return Err(Uncompared::TooLarge);
        }
        let request = encode::request_of(&whole_value(shape, &self.key));
        let asked = self.lane.submit(Batch::one(request, true).to(self.to));
        let reply = asked.whole().await.map_err(|_| Uncompared::Silent)?;
        match decode::error(&reply) {
            Some(text) if text.starts_with("WRONGTYPE") => Ok(Side::OtherType),
            Some(_) => Err(Uncompared::Silent),
            None => Ok(read_value(shape, &reply).ok_or(Uncompared::Silent)?.map_or(Side::HasNothing, Side::Has)),
        }
    }

    async fn ours(&self) -> Result<Side, Uncompared> {
        let mapping = &self.owned.mappings.list[self.mapping.index()];
        let record = match mapping.kind {
            Kind::Definition => self.owned.definitions.snapshot().get(self.mapping, &self.key).cloned(),
            Kind::Cache => {
                let mut asker = Asker::new(None, Tick::now());
                let entry =
                    self.owned.cache.load(self.mapping, &self.key, &mut asker).await.map_err(|_| Uncompared::Silent)?;
                entry.record.clone()
            }
        };
        Ok(record.map_or(Side::HasNothing, Side::Has))
    }

    fn differences(&self, (theirs, ours): &(Side, Side)) -> Vec<Mismatch> {
        let one = |field: &str, words: &str| vec![self.mismatch(field.to_owned(), words.to_owned())];
        match (theirs, ours) {
            (Side::HasNothing, Side::HasNothing) | (_, Side::OtherType) => Vec::new(),
            (Side::HasNothing, _) => one(WHOLE_KEY, "the store has the key, the upstream has not"),
            (Side::OtherType, Side::HasNothing) => {
                one(WHOLE_KEY, "the upstream has a key of another type, the store none")
            }
            (Side::OtherType, _) => one("(type)", "the upstream has a value of another type"),
            (_, Side::HasNothing) => one(WHOLE_KEY, "the upstream has the key, the store has not"),
            (Side::Has(theirs), Side::Has(ours)) => {
                let differences = Record::differences(Some(theirs), Some(ours));
                let differences = differences.iter().take(FIELDS);
                differences.map(|it| self.mismatch(it.place(ours.shape()), it.words())).collect()
            }
        }
    }

    fn mismatch(&self, field: String, words: String) -> Mismatch {
        Mismatch { mapping: self.name().to_owned(), key: self.key.clone(), field, words, at: UnixMs::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, Side, Verdict, judge};

    fn hash(pairs: &[(&str, &str)]) -> Side {
        Side::Has(Record::hash(pairs).expect("a record"))
    }

    #[test]
    fn a_difference_counts_when_the_next_look_finds_the_same() {
        let (old, new) = (hash(&[("a", "1"), ("b", "2")]), hash(&[("b", "2"), ("a", "9")]));
        assert_eq!(judge(None, &(old.clone(), hash(&[("b", "2"), ("a", "1")]))), Verdict::Same, "in any order");
        assert_eq!(judge(None, &(Side::HasNothing, Side::HasNothing)), Verdict::Same);
        let written = (new.clone(), old.clone());
        assert_eq!(judge(None, &written), Verdict::Again, "one side was written, the other one may be soon");
        assert_eq!(judge(Some(&written), &written), Verdict::Different);
        assert_eq!(judge(Some(&written), &(new.clone(), new)), Verdict::Same);
        assert_eq!(judge(Some(&written), &(Side::OtherType, old)), Verdict::Again, "written once more");
    }
}
