//! The store's part of a transaction: writes of cached keys, and reads of the keys that it writes, as steps of one
//! batch. Each command is read once, when EXEC comes; `answers.rs` replies from what its steps did.

use std::collections::HashSet;

use bytes::Bytes;

use super::queued::Queued;
use crate::cache::{Act, Step};
use crate::command::OwnedRequest;
use crate::config::{DeleteMode, WriteMode};
use crate::keys::MappingId;
use crate::mapping::Mapping;
use crate::record::{Answer, ExpireCommand, Verb, Write};
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
pub(super) fn part(mappings: &[Mapping], queued: &[Queued]) -> Part {
    let changes: Vec<Change> = queued.iter().map(|command| change(mappings, command)).collect();
    let written =
        queued.iter().zip(&changes).flat_map(|(command, change)| written(mappings, command, change)).collect();
    let mut planning = Planning { mappings, written, steps: Vec::new() };
    let answers = queued.iter().zip(changes).map(|(command, change)| planning.answer(command, change)).collect();
    Part { steps: planning.steps, answers }
}

/// The change that a command is, if it goes through to the store. One whose arguments are wrong is answered as usual:
/// with an error.
fn change(mappings: &[Mapping], command: &Queued) -> Change {
    let Queued::Here(request, Route::Cached(key, verb)) = command else { return Change::Nothing };
    let mapping = &mappings[key.mapping.index()];
    let read = match verb {
        Verb::Write(verb) if goes_through(mapping.config.write) && verb.shape == mapping.config.shape => {
            verb.read(&request.view(), key.spec).map(Change::Write)
        }
        Verb::Expire(parse) => parse(&request.view(), key.spec).map(|command| {
            if mapping.expires_rows(command.gives_value) { Change::Expire(command) } else { Change::Nothing }
        }),
        _ => return Change::Nothing,
    };
    read.unwrap_or(Change::Nothing)
}

const fn goes_through(mode: WriteMode) -> bool {
    matches!(mode, WriteMode::Through | WriteMode::Deferred)
}

/// The mapping of a key whose rows DEL deletes.
fn deletes_rows(mappings: &[Mapping], split: Split, holder: Holder) -> Option<MappingId> {
    match holder {
        Holder::Cache(mapping) if split == Split::Remove => {
            (mappings[mapping.index()].config.delete == DeleteMode::Row).then_some(mapping)
        }
        _ => None,
    }
}

/// The keys that a command changes.
fn written(mappings: &[Mapping], command: &Queued, change: &Change) -> Vec<Bytes> {
    match (command, change) {
        (Queued::Here(request, Route::Cached(key, _)), Change::Write(_) | Change::Expire(_)) => {
            vec![request.key(key.at)]
        }
        (Queued::Here(request, Route::Split(split)), _) => {
            let deleted = split.keys.iter().filter(|key| deletes_rows(mappings, split.split, key.holder).is_some());
            deleted.map(|key| request.key(key.at)).collect()
        }
        _ => Vec::new(),
    }
}

/// A part that is being planned.
struct Planning<'a> {
    mappings: &'a [Mapping],
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
            Change::Write(write) => (Act::Write(write.clone()), Asked::Write(write)),
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
            (Split::Remove, _) => match deletes_rows(self.mappings, split, holder) {
                Some(mapping) => KeyStep::Step(self.add(mapping, key, Act::Write(Write::delete()))),
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
        Verb::Write(verb) => verb.read(&request, key.spec).ok().map(Asked::Mismatch),
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

#[cfg(test)]
mod tests {
    use super::{Asked, KeyStep, Part, StoreAnswer, part};
    use crate::cache::Act;
    use crate::command::{OwnedRequest, lookup};
    use crate::config::MappingConfig;
    use crate::keys::{Keyspace, MappingId, Pattern};
    use crate::mapping::{Kind, Mapping};
    use crate::record::Edit;
    use crate::route::{Route, Router};
    use crate::transaction::queued::Queued;

    /// One mapping of each kind, named by what it does.
    const BLOCKS: [(&str, &str); 5] = [
        ("saved", r#""type": "hash", "write": "through""#),
        ("deleted", r#""type": "hash", "write": "through", "delete": "row""#),
        ("filled", r#""type": "hash", "write": "fill""#),
        ("timed", r#""type": "hash", "write": "through", "expires_column": "at""#),
        ("defined", r#""type": "hash""#),
    ];

    fn mappings() -> Vec<Mapping> {
        let mapping = |(number, (name, more)): (usize, &(&str, &str))| {
            let key = format!("{name}:{{x}}");
            let block = format!(r#"{{"key": "{key}", "table": "t", {more}}}"#);
            let config: MappingConfig = serde_json::from_str(&block).expect("a block");
            let kind = if *name == "defined" { Kind::Definition } else { Kind::Cache };
            Mapping { id: MappingId::new(number), kind, pattern: Pattern::parse(&key).expect("a pattern"), config }
        };
        BLOCKS.iter().enumerate().map(mapping).collect()
    }

    fn plan(lines: &[&str]) -> Part {
        let mappings = mappings();
        let keyspace = Keyspace::new(mappings.iter().map(|mapping| mapping.pattern.clone()).collect());
        let router = Router::new(keyspace, mappings.iter().map(|mapping| mapping.kind).collect(), &[]);
        let queued = |line: &&str| {
            let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            let request = OwnedRequest::from_words(&words);
            match router.route(&request.view(), lookup(&words[0], b"")) {
                Route::PassThrough(_) => Queued::Upstream(1),
                route => Queued::Here(request, route),
            }
        };
        part(&mappings, &lines.iter().map(queued).collect::<Vec<_>>())
    }

    /// How each command is answered, with the numbers of its steps.
    fn answers(part: &Part) -> Vec<String> {
        let key = |key: &KeyStep| match key {
            KeyStep::Step(step) => format!("{step}"),
            KeyStep::Forget(_) => "forgotten".to_owned(),
            KeyStep::Definition(..) => "definition".to_owned(),
        };
        let shown = |answer: &StoreAnswer| match answer {
            StoreAnswer::Usual => "usual".to_owned(),
            StoreAnswer::One(one) => {
                let asked = match one.asked {
                    Asked::Write(_) => "written",
                    Asked::Expire { .. } => "row expires",
                    Asked::Read(_) => "read",
                    Asked::Mismatch(_) => "wrong type",
                    Asked::TtlChange(_) => "memory expires",
                };
                format!("{asked} {}", one.step)
            }
            StoreAnswer::Several(_, keys) => keys.iter().map(key).collect::<Vec<_>>().join(", "),
        };
        part.answers.iter().map(shown).collect()
    }

    fn steps(part: &Part) -> Vec<String> {
        let shown = |act: &Act| match act {
            Act::Read => "read",
            Act::Write(write) if write.edit == Edit::Delete => "delete",
            Act::Write(_) => "write",
            Act::ChangeTtl(_) => "expire",
        };
        part.steps.iter().map(|step| format!("{} {}", shown(&step.act), String::from_utf8_lossy(&step.key))).collect()
    }

    #[test]
    fn writes_and_reads_of_written_keys_are_steps_in_the_order_of_their_commands() {
        let part = plan(&[
            "HGET saved:1 a",
            "GET other",
            "HSET saved:1 a b",
            "HGET saved:2 a",
            "HGETALL defined:1",
            "HLEN saved:1",
        ]);
        assert_eq!(steps(&part), ["read saved:1", "write saved:1", "read saved:1"]);
        assert_eq!(answers(&part), ["read 0", "usual", "written 1", "usual", "usual", "read 2"]);
        assert!(part.writes());
    }

    #[test]
    fn a_transaction_that_writes_nothing_has_no_steps() {
        for line in ["HGET saved:1 a", "HSET filled:1 a b", "HSET saved:1 a", "EXPIRE saved:1 9", "DEL saved:1"] {
            let part = plan(&[line, "GET other"]);
            assert_eq!(
                (steps(&part).len(), answers(&part), part.writes()),
                (0, vec!["usual".into(); 2], false),
                "{line}"
            );
        }
    }

    #[test]
    fn what_does_not_change_a_written_key_is_answered_from_what_its_step_reads() {
        let part = plan(&["HSET saved:1 a b", "RPUSH saved:1 x", "EXPIRE saved:1 9", "EXISTS saved:1 defined:1"]);
        assert_eq!(steps(&part), ["write saved:1", "read saved:1", "read saved:1", "read saved:1"]);
        assert_eq!(answers(&part), ["written 0", "wrong type 1", "memory expires 2", "3, definition"]);
    }

    #[test]
    fn del_deletes_rows_only_where_the_mapping_says_so() {
        let part = plan(&["DEL saved:1 deleted:1", "HGET deleted:1 a"]);
        assert_eq!(steps(&part), ["delete deleted:1", "read deleted:1"]);
        assert_eq!(answers(&part), ["forgotten, 0", "read 1"]);
        assert!(part.writes());
    }

    #[test]
    fn expire_changes_a_row_that_says_when_it_expires() {
        let part = plan(&["EXPIRE timed:1 9", "TTL timed:1", "EXPIRE timed:2 x"]);
        assert_eq!(steps(&part), ["expire timed:1", "read timed:1"]);
        assert_eq!(answers(&part), ["row expires 0", "read 1", "usual"]);
        assert!(part.writes());
    }
}
