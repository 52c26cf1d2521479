//! What one transaction has changed, gathered until it can be seen: as little as is told of it. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::brought::Brought;
use super::concern::{Concern, Told};
use super::relations::Interests;
use crate::store::logged::{Left, Look};
use crate::store::{Change, MOST_KEYS, RowChange};
use crate::telemetry::clock::Tick;

/// Whose write a transaction is.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    None,
    One(String),
    Several,
}

/// A key that was changed.
#[derive(Debug, Default)]
struct Touched {
    times: u32,
    /// What is left behind it, if that is known.
    left: Option<Left>,
}

#[derive(Debug)]
pub(super) struct Transaction {
    /// The low half of its number.
    pub(super) number: u32,
    /// The interests by which its rows were read.
    pub(super) interests: Interests,
    /// When a heartbeat of ours that it carries was sent.
    pub(super) heartbeat: Option<Tick>,
    /// What somebody asks of all sidecars.
    pub(super) words: Vec<String>,
    /// Whether a table is another one in it than before.
    pub(super) changes_schema: bool,
    /// The last look that has not seen it.
    pub(super) unseen: Option<Look>,
    /// Whether it concerns anything that is kept here; none: nobody has been asked.
    pub(super) is_kept: Option<bool>,
    /// The sidecar's write that it is.
    origin: Origin,
    /// The keys by the mapping's pattern; none: the whole of it.
    told: HashMap<Arc<str>, Option<HashMap<Bytes, Touched>>>,
}

impl Transaction {
    pub(super) fn new(number: u32, interests: Interests) -> Self {
        let (heartbeat, words, unseen, is_kept, told) = Default::default();
        Self { number, interests, heartbeat, words, changes_schema: false, unseen, is_kept, origin: Origin::None, told }
    }

    /// A row that concerns a mapping.
    pub(super) fn changed(&mut self, concern: &Concern, brought: &Brought<'_, '_>) {
        match concern.told(&brought.row) {
            Told::Whole => self.changed_whole(&concern.pattern),
            Told::Keys(new) => {
                if new.is_empty() {
                    return;
                }
                let told = self.told.entry(concern.pattern.clone()).or_insert_with(|| Some(HashMap::new()));
                let Some(keys) = told else { return };
                for told in new {
                    let touched = keys.entry(told.key).or_default();
                    touched.times += 1;
                    // What several changes leave, one of them does not say.
                    let is_first = touched.times == 1;
                    touched.left = concern.shows.as_ref().filter(|_| is_first).and_then(|table| {
                        let row = if told.has_row { Some(brought.image()?) } else { None };
                        Some(Left { table: table.clone(), row })
                    });
                }
                if keys.len() > MOST_KEYS {
                    *told = None;
                }
            }
        }
    }

    /// It is a sidecar's write with this origin, if it has no other.
    pub(super) fn is_of(&mut self, origin: &str) {
        self.origin = match &self.origin {
            Origin::None => Origin::One(origin.to_owned()),
            Origin::One(known) if known == origin => return,
            Origin::One(_) | Origin::Several => Origin::Several,
        };
    }

    /// How many keys it holds.
    pub(super) fn len(&self) -> usize {
        self.told.values().flatten().map(HashMap::len).sum()
    }

    /// Whether more is to be told than keys, which nobody has to be asked about.
    pub(super) fn is_more_than_keys(&self, now: &Interests) -> bool {
        self.heartbeat.is_some()
            || self.changes_schema
            || !self.words.is_empty()
            || !Arc::ptr_eq(&self.interests, now)
            || self.told.values().any(Option::is_none)
    }

    /// The keys that it has changed once, and those that it has changed more than once.
    pub(super) fn keys(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let keys = self.told.values().flatten().flatten();
        let (once, often): (Vec<_>, Vec<_>) = keys.partition(|(_, touched)| touched.times == 1);
        let names = |keys: Vec<(&Bytes, _)>| keys.into_iter().map(|(key, _)| key.clone()).collect();
        (names(once), names(often))
    }

    /// The origin of the sidecar's write that it is.
    pub(super) fn origin(&self) -> Option<&String> {
        match &self.origin {
            Origin::One(origin) => Some(origin),
            Origin::None | Origin::Several => None,
        }
    }

    /// It concerns nobody, as far as is known: its rows take no room while it waits.
    pub(super) fn put_aside(&mut self) {
        self.told.values_mut().flatten().flat_map(HashMap::values_mut).for_each(|touched| touched.left = None);
    }

    /// Holds no keys any more: each mapping that it has changed may have changed as a whole.
    pub(super) fn forget_keys(&mut self) {
        self.told.values_mut().for_each(|keys| *keys = None);
    }

    /// All of a mapping may have changed.
    pub(super) fn changed_whole(&mut self, pattern: &Arc<str>) {
        self.told.insert(pattern.clone(), None);
    }

    /// The changes, where they are read by these interests; everything that is wanted now, if they were read by others.
    pub(super) fn changes(self, now: &Interests) -> Vec<Change> {
        let origin = self.origin().cloned();
        let (mut changes, mut own, mut others, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        changes.extend(self.changes_schema.then_some(Change::Schema));
        changes.extend(self.words.into_iter().map(Change::Word));
        // What was read by the interests of before may be shown by others now.
        let unseen = self.unseen.filter(|_| Arc::ptr_eq(&self.interests, now) && !self.changes_schema);
        for (pattern, keys) in self.told {
            match keys {
                None => changes.push(Change::Mapping(pattern.to_string())),
                Some(keys) => {
                    let is_all = keys.values().all(|touched| touched.times == 1 && touched.left.is_some());
                    for (key, touched) in keys {
                        match (touched.times, touched.left, unseen) {
                            (1, Some(left), Some(unseen)) => rows.push(RowChange { key, unseen, is_all, left }),
                            (1, ..) => own.push(key),
                            // A trigger of the table's owner may have changed it after the write.
                            _ => others.push(key),
                        }
                    }
                }
            }
        }
        if !Arc::ptr_eq(&self.interests, now) {
            let interests = now.iter().flat_map(|table| &table.interests);
            changes.extend(interests.map(|interest| Change::Mapping(interest.pattern.clone())));
        }
        changes.extend((!rows.is_empty()).then(|| Change::Rows(rows, origin.clone())));
        let keys = [(own, origin), (others, None)].into_iter().filter(|(keys, _)| !keys.is_empty());
        changes.extend(keys.map(|(keys, origin)| Change::Keys(keys, origin)));
        changes
    }
}
