//! What one transaction has changed, gathered until it can be seen: as little as is told of it. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::concern::{Concern, Row, Told};
use super::relations::Interests;
use crate::store::{Change, MOST_KEYS};
use crate::telemetry::clock::Tick;

/// Whose write a transaction is.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    None,
    One(String),
    Several,
}

#[derive(Debug)]
pub(super) struct Transaction {
    /// The low half of its number.
    pub(super) number: u32,
    /// The interests by which its rows were read.
    pub(super) interests: Interests,
    /// When a heartbeat of ours that it carries was sent.
    pub(super) heartbeat: Option<Tick>,
    /// Whether a table is another one in it than before.
    pub(super) changes_schema: bool,
    /// The sidecar's write that it is.
    origin: Origin,
    /// The keys by the mapping's pattern, and how often each was changed; none: the whole of it.
    told: HashMap<Arc<str>, Option<HashMap<Bytes, u32>>>,
}

impl Transaction {
    pub(super) fn new(number: u32, interests: Interests) -> Self {
        Self { number, interests, heartbeat: None, changes_schema: false, origin: Origin::None, told: HashMap::new() }
    }

    /// A row that concerns a mapping.
    pub(super) fn changed(&mut self, concern: &Concern, row: &Row<'_, '_>) {
        match concern.told(row) {
            Told::Whole => self.changed_whole(&concern.pattern),
            Told::Keys(new) => {
                if new.is_empty() {
                    return;
                }
                let told = self.told.entry(concern.pattern.clone()).or_insert_with(|| Some(HashMap::new()));
                let Some(keys) = told else { return };
                new.into_iter().for_each(|key| *keys.entry(key).or_default() += 1);
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
        let (mut changes, mut own, mut others) = (Vec::new(), Vec::new(), Vec::new());
        changes.extend(self.changes_schema.then_some(Change::Schema));
        for (pattern, keys) in self.told {
            match keys {
                None => changes.push(Change::Mapping(pattern.to_string())),
                Some(keys) => keys.into_iter().for_each(|(key, times)| match times {
                    1 => own.push(key),
                    // A trigger of the table's owner may have changed it after the write.
                    _ => others.push(key),
                }),
            }
        }
        if !Arc::ptr_eq(&self.interests, now) {
            let interests = now.iter().flat_map(|table| &table.interests);
            changes.extend(interests.map(|interest| Change::Mapping(interest.pattern.clone())));
        }
        let origin = match self.origin {
            Origin::One(origin) => Some(origin),
            Origin::None | Origin::Several => None,
        };
        let keys = [(own, origin), (others, None)].into_iter().filter(|(keys, _)| !keys.is_empty());
        changes.extend(keys.map(|(keys, origin)| Change::Keys(keys, origin)));
        changes
    }
}
