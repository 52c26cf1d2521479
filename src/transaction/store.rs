//! The store's part of a transaction: writes of cached keys, and reads of the keys that it writes, as steps of one batch.

use std::collections::HashSet;

use bytes::{BufMut, Bytes};

use super::Desk;
use super::queued::Queued;
use crate::cache::{Act, AllDone, Done, Ended, Step};
use crate::command::{OwnedRequest, Request, Spec};
use crate::config::{DeleteMode, WriteMode};
use crate::dispatch::{Services, answer_from, answer_lived, answer_mismatch, removes};
use crate::record::{Edit, ExpireCommand, Record, TtlChange, View, Write, answer_of, written_shape};
use crate::resp::encode;
use crate::route::Route;
use crate::store::StoreError;

/// How one queued command is answered.
#[derive(Debug)]
pub(super) enum StoreAnswer {
    /// As outside a transaction, or by the upstream.
    Usual,
    /// By what this step wrote.
    Write(Write, usize),
    /// From what this step read.
    Read(usize),
    /// A command for another type, by what this step read.
    Mismatch(Write, usize),
    /// By what this step read, and what is in memory when all is done.
    TtlChange(ExpireCommand, usize),
    /// By what this step did, with the value if that is asked for.
    Lived(bool, usize),
    /// DEL: steps that delete, and keys that are forgotten.
    Remove(Vec<Result<usize, Bytes>>),
    /// EXISTS, TOUCH: steps that read, and definitions.
    Count(Vec<Result<usize, Bytes>>),
    /// MGET: the same.
    Values(Vec<Result<usize, Bytes>>),
}

impl StoreAnswer {
    /// The steps that it is answered from, and no other command.
    pub(super) fn steps(&self) -> impl Iterator<Item = usize> {
        let (one, several) = match self {
            Self::Usual => (None, &[][..]),
            Self::Write(_, step)
            | Self::Read(step)
            | Self::Mismatch(_, step)
            | Self::TtlChange(_, step)
            | Self::Lived(_, step) => (Some(*step), &[][..]),
            Self::Remove(places) | Self::Count(places) | Self::Values(places) => (None, &places[..]),
        };
        one.into_iter().chain(several.iter().filter_map(|place| place.as_ref().ok().copied()))
    }
}

/// The steps of a transaction, and how its commands are answered from them.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) steps: Vec<Step>,
    pub(super) ours: Vec<StoreAnswer>,
}

/// What these commands ask of the store.
pub(super) fn part(services: &Services, queued: &[Queued]) -> Part {
    let written: HashSet<Bytes> = queued.iter().flat_map(|command| written(services, command)).collect();
    let mut part = Part::default();
    for command in queued {
        let ours = match command {
            Queued::Here(request, route) => part.of(services, &request.view(), route, &written),
            _ => StoreAnswer::Usual,
        };
        part.ours.push(ours);
    }
    part
}

/// The write that a command is, if it goes through to the store.
fn write_of(services: &Services, request: &Request<'_>, mapping: usize, spec: &'static Spec) -> Option<Write> {
    let block = &services.owned.mappings.list[mapping].config;
    let fits =
        matches!(block.write, WriteMode::Through | WriteMode::Deferred) && written_shape(spec) == Some(block.shape);
    Write::parse(request, spec).ok().filter(|_| fits)
}

/// EXPIRE and its kin on a key that ends by its row's column.
fn lives_by_column(
    services: &Services,
    request: &Request<'_>,
    mapping: usize,
    spec: &'static Spec,
) -> Option<ExpireCommand> {
    let lifetime = ExpireCommand::parse(request, spec)?.ok()?;
    services.owned.ends_by_column(mapping, &lifetime).then_some(lifetime)
}

fn deletes_rows(services: &Services, spec: &Spec, key: &[u8]) -> Option<usize> {
    let mapping = services.router.owner(key).filter(|_| removes(spec))?;
    (services.owned.mappings.list[mapping].config.delete == DeleteMode::Row).then_some(mapping)
}

/// The keys that a command writes.
fn written(services: &Services, command: &Queued) -> Vec<Bytes> {
    let Queued::Here(request, route) = command else { return Vec::new() };
    let request = request.view();
    let copy = |at: &usize| Bytes::copy_from_slice(request.arg(*at));
    match route {
        Route::Owned(mapping, at, spec) => {
            let writes = write_of(services, &request, *mapping, spec).is_some();
            let lives = lives_by_column(services, &request, *mapping, spec).is_some();
            (writes || lives).then(|| copy(at)).into_iter().collect()
        }
        Route::Split(keys, spec) => {
            keys.iter().filter(|at| deletes_rows(services, spec, request.arg(**at)).is_some()).map(copy).collect()
        }
        _ => Vec::new(),
    }
}

impl Part {
    /// True when it changes something in the store.
    pub(super) fn writes(&self) -> bool {
        self.ours.iter().any(|ours| match ours {
            StoreAnswer::Write(..) | StoreAnswer::Lived(..) => true,
            StoreAnswer::Remove(places) => places.iter().any(Result::is_ok),
            _ => false,
        })
    }

    fn add(&mut self, mapping: usize, key: Bytes, act: Act) -> usize {
        self.steps.push(Step { mapping, key, act });
        self.steps.len() - 1
    }

    fn of(
        &mut self,
        services: &Services,
        request: &Request<'_>,
        route: &Route,
        written: &HashSet<Bytes>,
    ) -> StoreAnswer {
        match route {
            Route::Owned(mapping, at, spec) => {
                let key = Bytes::copy_from_slice(request.arg(*at));
                let lives = lives_by_column(services, request, *mapping, spec);
                match (write_of(services, request, *mapping, spec), lives) {
                    (Some(write), _) => {
                        let step = self.add(*mapping, key, Act::Write(write.edit.clone(), write.life));
                        StoreAnswer::Write(write, step)
                    }
                    (None, Some(lifetime)) => {
                        let gives_value = lifetime.gives_value;
                        StoreAnswer::Lived(gives_value, self.add(*mapping, key, Act::Live(lifetime)))
                    }
                    (None, None) if !written.contains(&key) => StoreAnswer::Usual,
                    (None, None) if answer_of(spec).is_some() => StoreAnswer::Read(self.add(*mapping, key, Act::Read)),
                    (None, None) => match (ExpireCommand::parse(request, spec), Write::parse(request, spec)) {
                        (Some(Ok(lifetime)), _) => StoreAnswer::TtlChange(lifetime, self.add(*mapping, key, Act::Read)),
                        (None, Ok(write)) => StoreAnswer::Mismatch(write, self.add(*mapping, key, Act::Read)),
                        _ => StoreAnswer::Usual,
                    },
                }
            }
            Route::Split(keys, spec) if keys.iter().any(|at| written.contains(request.arg(*at))) => {
                let places = keys.iter().map(|at| self.place(services, request.arg(*at), spec)).collect();
                match spec.name.as_str() {
                    _ if removes(spec) => StoreAnswer::Remove(places),
                    "mget" => StoreAnswer::Values(places),
                    _ => StoreAnswer::Count(places),
                }
            }
            _ => StoreAnswer::Usual,
        }
    }

    /// The step of one key of several; none for definitions and for keys that are only forgotten.
    fn place(&mut self, services: &Services, key: &[u8], spec: &Spec) -> Result<usize, Bytes> {
        let key = Bytes::copy_from_slice(key);
        if removes(spec) {
            let mapping = deletes_rows(services, spec, &key).ok_or_else(|| key.clone())?;
            return Ok(self.add(mapping, key, Act::Write(Edit::Delete, TtlChange::Keep)));
        }
        let mapping = services.router.owner(&key).filter(|mapping| !services.owned.is_definition(*mapping));
        mapping.map_or_else(|| Err(key.clone()), |mapping| Ok(self.add(mapping, key.clone(), Act::Read)))
    }
}

/// Answers a command from what its steps did; false if it is to be answered as usual.
pub(super) fn answer(
    desk: &mut Desk<'_>,
    request: &OwnedRequest,
    route: &Route,
    ours: &StoreAnswer,
    done: &Result<AllDone, StoreError>,
) -> bool {
    let (view, proto) = (request.view(), desk.session.proto());
    let done = match (ours, done) {
        (StoreAnswer::Usual, _) => return false,
        (_, Ok(done)) => &**done,
        (_, Err(error)) => {
            encode::error(desk.out, &format!("ERR hearthside: the store's part of the transaction failed: {error}"));
            return true;
        }
    };
    match ours {
        StoreAnswer::Usual => return false,
        StoreAnswer::Write(write, step) => match (&done[*step], route) {
            (Done::Written(Ok(written)), _) => write.answer(written, proto, desk.out),
            (Done::Written(Err(error)), Route::Owned(mapping, ..)) => {
                encode::error(desk.out, &desk.services.owned.write_error(*mapping, error));
            }
            _ => return false,
        },
        StoreAnswer::Read(step) => {
            let Route::Owned(_, _, spec) = route else { return false };
            let Some(answer) = answer_of(spec) else { return false };
            let seen = View { record: read(done, *step), expires_in: None };
            answer_from(answer, &view, &seen, proto, desk.out);
        }
        StoreAnswer::Lived(gives_value, step) => {
            let Done::Lived(ended) = &done[*step] else { return false };
            answer_lived(ended.record.as_ref(), &ended.life, *gives_value, proto, desk.out);
        }
        StoreAnswer::Mismatch(write, step) => {
            let Route::Owned(mapping, at, _) = route else { return false };
            let block = &desk.services.owned.mappings.list[*mapping].config;
            answer_mismatch(block, (&view, *at), write, read(done, *step), proto, desk.out);
        }
        StoreAnswer::TtlChange(lifetime, step) => {
            let Route::Owned(mapping, at, _) = route else { return false };
            let (owned, key) = (&desk.services.owned, Bytes::copy_from_slice(view.arg(*at)));
            let entry = owned.cache.get(*mapping, &key, desk.session.now);
            owned.change_life(*mapping, &key, (read(done, *step), entry.as_ref()), lifetime, proto, desk.out);
        }
        StoreAnswer::Remove(places) => {
            let removed = places.iter().filter(|place| match place {
                Ok(step) => matches!(&done[*step], Done::Written(Ok(written)) if written.old.is_some()),
                Err(key) => desk.services.owned.cache.invalidate(key),
            });
            let removed = removed.count() as i64;
            encode::int(desk.out, removed);
        }
        StoreAnswer::Count(places) => {
            let there = places.iter().filter(|place| seen(desk.services, place, done).is_some()).count();
            encode::int(desk.out, there as i64);
        }
        StoreAnswer::Values(places) => {
            encode::array(desk.out, places.len());
            for place in places {
                match seen(desk.services, place, done)
                    .and_then(|record| record.encoded_string().map(Bytes::copy_from_slice))
                {
                    Some(encoded) => desk.out.put_slice(&encoded),
                    None => encode::null(desk.out, proto),
                }
            }
        }
    }
    true
}

fn read(done: &[Done], step: usize) -> Option<&Record> {
    match &done[step] {
        Done::Read(record) => record.as_ref(),
        Done::Lived(Ended { record, .. }) => record.as_ref(),
        Done::Written(_) => None,
    }
}

fn seen(services: &Services, place: &Result<usize, Bytes>, done: &[Done]) -> Option<Record> {
    match place {
        Ok(step) => read(done, *step).cloned(),
        Err(key) => {
            let mapping = services.router.owner(key)?;
            services.owned.definitions.snapshot().get(mapping, key).cloned()
        }
    }
}
