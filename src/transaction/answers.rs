//! The answers to a transaction's commands from what their steps did in the store.

use bytes::{BufMut, Bytes};

use super::Desk;
use super::store::{Asked, KeyStep, OneStep, StoreAnswer};
use crate::cache::{AllDone, Done, ExpireOutcome};
use crate::command::OwnedRequest;
use crate::dispatch::{Living, Mismatch, Owned, answer_from, answer_lived};
use crate::errors;
use crate::keys::MappingId;
use crate::record::{ExpireCommand, Record, View};
use crate::resp::encode;
use crate::route::Split;
use crate::store::StoreError;

/// Answers a command from what its steps did; false if it is to be answered as usual.
pub(super) fn answer(
    desk: &mut Desk<'_>,
    request: &OwnedRequest,
    ours: &StoreAnswer,
    done: &Result<AllDone, StoreError>,
) -> bool {
    match (ours, done) {
        (StoreAnswer::Usual, _) => false,
        (_, Err(error)) => {
            encode::error(desk.out, &errors::transaction::store_part_failed(&error.in_full()));
            true
        }
        (StoreAnswer::One(one), Ok(done)) => answer_one(desk, request, one, &done[one.step]),
        (StoreAnswer::Several(split, keys), Ok(done)) => {
            answer_several(desk, *split, keys, done);
            if let Some(reader) = desk.session.tracking_reader().filter(|_| *split != Split::Remove) {
                // Several keys, of which the transaction has changed some: none of them is kept.
                request.view().args_from(1).for_each(|key| reader.forgets(key));
            }
            true
        }
    }
}

/// A command on one key; false if the step does not belong to this command, which never happens.
fn answer_one(desk: &mut Desk<'_>, request: &OwnedRequest, one: &OneStep, done: &Done) -> bool {
    let (proto, owned, key) = (desk.session.proto(), &desk.services.owned, one.key);
    match (&one.asked, done) {
        (Asked::Write(write), Done::Written(Ok(written))) => write.answer(written, proto, desk.out),
        (Asked::Write(_), Done::Written(Err(error))) => {
            encode::error(desk.out, &owned.write_error(key.mapping, error));
        }
        (Asked::Expire { gives_value }, Done::TtlChanged(ExpireOutcome { record, life })) => {
            answer_lived(record.as_ref(), life, *gives_value, proto, desk.out);
        }
        (Asked::Read(answer), done) => {
            let view = View { record: read(done), expires_in: None };
            answer_from(*answer, &request.view(), &view, proto, desk.out);
            if let Some(reader) = desk.session.tracking_reader() {
                owned.cache.reads_record(&reader, key.mapping, &request.key(key.at), view.record);
            }
        }
        (Asked::Mismatch(write), done) => {
            let mapping = &owned.mappings.list[key.mapping.index()].config;
            let mismatch = Mismatch { mapping, request: &request.view(), at: key.at, write };
            mismatch.answer(read(done), proto, desk.out);
        }
        (Asked::TtlChange(command), done) => change_life(desk, request.key(key.at), key.mapping, command, read(done)),
        _ => return false,
    }
    true
}

/// A command about when a key expires that the transaction has changed.
fn change_life(desk: &mut Desk<'_>, key: Bytes, mapping: MappingId, command: &ExpireCommand, record: Option<&Record>) {
    let owned = &desk.services.owned;
    let entry = owned.cache.get(mapping, &key, desk.session.now);
    let living = Living { mapping, key: &key, record, entry: entry.as_ref(), client: desk.session.peer.id };
    owned.change_life(&living, command, desk.session.proto(), desk.out);
}

fn answer_several(desk: &mut Desk<'_>, split: Split, keys: &[KeyStep], done: &[Done]) {
    let owned = &desk.services.owned;
    match split {
        Split::Remove => {
            let client = desk.session.peer.id;
            let removed = keys.iter().filter(|key| removed(owned, key, done, client)).count();
            encode::int(desk.out, removed as i64);
        }
        Split::Exists | Split::Touch => {
            let there = keys.iter().filter(|key| held(owned, key, done).is_some()).count();
            encode::int(desk.out, there as i64);
        }
        Split::Values => {
            encode::array(desk.out, keys.len());
            for key in keys {
                match held(owned, key, done).as_ref().and_then(Record::encoded_string) {
                    Some(encoded) => desk.out.put_slice(encoded),
                    None => encode::null(desk.out, desk.session.proto()),
                }
            }
        }
    }
}

/// True when the key was there.
fn removed(owned: &Owned, key: &KeyStep, done: &[Done], client: u64) -> bool {
    match key {
        KeyStep::Step(step) => matches!(&done[*step], Done::Written(Ok(written)) if written.old.is_some()),
        KeyStep::Forget(key) => owned.forget(key, client),
        KeyStep::Definition(..) => false,
    }
}

/// What the key holds.
fn held(owned: &Owned, key: &KeyStep, done: &[Done]) -> Option<Record> {
    match key {
        KeyStep::Step(step) => read(&done[*step]).cloned(),
        KeyStep::Definition(mapping, key) => owned.definitions.snapshot().get(*mapping, key).cloned(),
        KeyStep::Forget(_) => None,
    }
}

fn read(done: &Done) -> Option<&Record> {
    match done {
        Done::Read(record) | Done::TtlChanged(ExpireOutcome { record, .. }) => record.as_ref(),
        Done::Written(_) => None,
    }
}
