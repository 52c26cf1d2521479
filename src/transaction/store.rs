//! The store's part of a transaction: writes of cached keys, and reads of the keys that it writes, as steps of one
//! batch. Each command is read once, when EXEC comes; `answers.rs` replies from what its steps did.

use std::collections::HashSet;

use bytes::Bytes;

use super::queued::Queued;
use crate::cache::{Act, Step};
use crate::command::OwnedRequest;
use crate::config::{DeleteMode, WriteMode};
use crate::dispatch::Owned;
use crate::keys::MappingId;
use crate::record::{Answer, Edit, ExpireCommand, TtlChange, Verb, Write};
use crate::route::{Holder, OwnedKey, Route, Split, SplitKeys};

/// How one queued command is answered.
#[derive(Debug)]
pub(super) enum StoreAnswer {
    /// As outside a transaction, or by the upstream.
    Usual,
    /// A command on one key.
    One(OneStep),
    /// A command over several keys.
    Several(Split, Vec<KeyStep>),
}

/// A command on one key, which is answered by what one step did.
#[derive(Debug)]
pub(super) struct OneStep {
    pub(super) key: OwnedKey,
    pub(super) step: usize,
    pub(super) asked: Asked,
}

/// What a command on one key asked.
#[derive(Debug)]
pub(super) enum Asked {
    /// A write that its step carried out.
    Write(Write),
    /// A change of when the row expires that its step carried out; it may return the value.
    Expire { gives_value: bool },
    /// A read of what its step read.
    Read(Answer),
    /// A write for another type than the mapping's, judged by what its step read.
    Mismatch(Write),
    /// A change of how long memory keeps what its step read.
    TtlChange(ExpireCommand),
}

/// One key of several.
#[derive(Debug)]
pub(super) enum KeyStep {
    /// This step deletes or reads it.
    Step(usize),
    /// It is only forgotten.
    Forget(Bytes),
    /// It is a definition of this mapping.
    Definition(MappingId, Bytes),
}

impl StoreAnswer {
    /// The steps that it is answered from, and no other command.
    pub(super) fn steps(&self) -> impl Iterator<Item = usize> {
        let (one, several) = match self {
            Self::Usual => (None, &[][..]),
            Self::One(one) => (Some(one.step), &[][..]),
            Self::Several(_, keys) => (None, &keys[..]),
        };
        let step = |key: &KeyStep| if let KeyStep::Step(step) = key { Some(*step) } else { None };
        one.into_iter().chain(several.iter().filter_map(step))
    }
}

/// The steps of a transaction, and how its commands are answered from them.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) steps: Vec<Step>,
    pub(super) answers: Vec<StoreAnswer>,
}

/// What a queued command changes in the store.
enum Change {
    /// Nothing.
    Nothing,
    /// The key's value.
    Write(Write),
    /// When the key's row expires.
    Expire(ExpireCommand),
}

/// What these commands ask of the store.
pub(super) fn part(owned: &Owned, queued: &[Queued]) -> Part {
    let changes: Vec<Change> = queued.iter().map(|command| change(owned, command)).collect();
    let written = queued.iter().zip(&changes).flat_map(|(command, change)| written(owned, command, change)).collect();
    let mut planning = Planning { owned, written, steps: Vec::new() };
    let answers = queued.iter().zip(changes).map(|(command, change)| planning.answer(command, change)).collect();
    Part { steps: planning.steps, answers }
}

/// The change that a command is, if it goes through to the store. One whose arguments are wrong is answered as usual:
/// with an error.
fn change(owned: &Owned, command: &Queued) -> Change {
    let Queued::Here(request, Route::Cached(key, verb)) = command else { return Change::Nothing };
    let block = &owned.mappings.list[key.mapping.index()].config;
    let read = match verb {
        Verb::Write(verb) if goes_through(block.write) && verb.shape == block.shape => {
            (verb.parse)(&request.view(), key.spec).map(Change::Write)
        }
        Verb::Expire(parse) if owned.cache.expires_by_column(key.mapping) => {
            parse(&request.view(), key.spec).map(|command| {
                let is_row = owned.ends_by_column(key.mapping, &command);
                if is_row { Change::Expire(command) } else { Change::Nothing }
            })
        }
        _ => return Change::Nothing,
    };
    read.unwrap_or(Change::Nothing)
}

const fn goes_through(mode: WriteMode) -> bool {
    matches!(mode, WriteMode::Through | WriteMode::Deferred)
}

/// The mapping of a key whose rows DEL deletes.
fn deletes_rows(owned: &Owned, split: Split, holder: Holder) -> Option<MappingId> {
    match holder {
        Holder::Cache(mapping) if split == Split::Remove => {
            (owned.mappings.list[mapping.index()].config.delete == DeleteMode::Row).then_some(mapping)
        }
        _ => None,
    }
}

/// The keys that a command changes.
fn written(owned: &Owned, command: &Queued, change: &Change) -> Vec<Bytes> {
    match (command, change) {
        (Queued::Here(request, Route::Cached(key, _)), Change::Write(_) | Change::Expire(_)) => {
            vec![request.key(key.at)]
        }
        (Queued::Here(request, Route::Split(split)), _) => {
            let deleted = split.keys.iter().filter(|key| deletes_rows(owned, split.split, key.holder).is_some());
            deleted.map(|key| request.key(key.at)).collect()
        }
        _ => Vec::new(),
    }
}

/// A part that is being planned.
struct Planning<'a> {
    owned: &'a Owned,
    /// The keys that the transaction changes: what it reads of them it reads in the store.
    written: HashSet<Bytes>,
    steps: Vec<Step>,
}

impl Planning<'_> {
    fn answer(&mut self, command: &Queued, change: Change) -> StoreAnswer {
        match command {
            Queued::Here(request, Route::Cached(key, verb)) => {
                self.one(request, *key, *verb, change).unwrap_or(StoreAnswer::Usual)
            }
            Queued::Here(request, Route::Split(keys)) => self.several(request, keys),
            _ => StoreAnswer::Usual,
        }
    }

    fn add(&mut self, mapping: MappingId, key: Bytes, act: Act) -> usize {
        self.steps.push(Step { mapping, key, act });
        self.steps.len() - 1
    }

    /// A command on one key; `None` where it is answered as usual.
    fn one(&mut self, request: &OwnedRequest, key: OwnedKey, verb: Verb, change: Change) -> Option<StoreAnswer> {
        let text = request.key(key.at);
        let (act, asked) = match change {
            Change::Write(write) => (Act::Write(write.edit.clone(), write.life), Asked::Write(write)),
            Change::Expire(command) => {
                let gives_value = command.gives_value;
                (Act::ChangeTtl(command), Asked::Expire { gives_value })
            }
            Change::Nothing if !self.written.contains(&text) => return None,
            Change::Nothing => (Act::Read, reading(request, key, verb)?),
        };
        let step = self.add(key.mapping, text, act);
        Some(StoreAnswer::One(OneStep { key, step, asked }))
    }

    /// A command over several keys, some of which the transaction changes.
    fn several(&mut self, request: &OwnedRequest, keys: &SplitKeys) -> StoreAnswer {
        let view = request.view();
        if !keys.keys.iter().any(|key| self.written.contains(view.arg(key.at))) {
            return StoreAnswer::Usual;
        }
        let steps = keys.keys.iter().map(|key| self.key_step(request.key(key.at), keys.split, key.holder)).collect();
        StoreAnswer::Several(keys.split, steps)
    }

    fn key_step(&mut self, key: Bytes, split: Split, holder: Holder) -> KeyStep {
        match (split, holder) {
            (Split::Remove, _) => match deletes_rows(self.owned, split, holder) {
                Some(mapping) => KeyStep::Step(self.add(mapping, key, Act::Write(Edit::Delete, TtlChange::Keep))),
                None => KeyStep::Forget(key),
            },
            (_, Holder::Cache(mapping)) => KeyStep::Step(self.add(mapping, key, Act::Read)),
            (_, Holder::Definitions(mapping)) => KeyStep::Definition(mapping, key),
            // Inside MULTI no command has keys of both kinds.
            (_, Holder::Upstream) => KeyStep::Forget(key),
        }
    }
}

/// What a command that changes nothing in the store asks of a key that the transaction changes.
fn reading(request: &OwnedRequest, key: OwnedKey, verb: Verb) -> Option<Asked> {
    let request = request.view();
    match verb {
        Verb::Read(answer) | Verb::Inspect(answer) => Some(Asked::Read(answer)),
        Verb::Write(verb) => (verb.parse)(&request, key.spec).ok().map(Asked::Mismatch),
        Verb::Expire(parse) => parse(&request, key.spec).ok().map(Asked::TtlChange),
    }
}

impl Part {
    /// True when it changes something in the store.
    pub(super) fn writes(&self) -> bool {
        self.answers.iter().any(|answer| match answer {
            StoreAnswer::Usual => false,
            StoreAnswer::One(one) => matches!(one.asked, Asked::Write(_) | Asked::Expire { .. }),
            StoreAnswer::Several(split, keys) => {
                *split == Split::Remove && keys.iter().any(|key| matches!(key, KeyStep::Step(_)))
            }
        })
    }
}
