//! EXPIRE and related commands, PERSIST and GETEX on one cached key.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::cache::{Cause, Entry};
use crate::dispatch::call::Call;
use crate::dispatch::{Flow, Owned};
use crate::keys::MappingId;
use crate::record::{ExpireCommand, ParseExpire, ReadError, Record, Shape, TtlChange};
use crate::resp::{Proto, encode};
use crate::route::OwnedKey;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{Outcome, RouteLabel};

impl Call<'_> {
    /// Changes when a cached key expires, for a request whose number of arguments is right.
    pub(super) fn expire(&mut self, key: OwnedKey, parse: ParseExpire) -> Flow {
        let command = match parse(self.request, key.spec) {
            Ok(command) => command,
            Err(error) => return self.error(&error.to_string()),
        };
        let (owned, text) = (&self.services.owned, Bytes::copy_from_slice(self.request.arg(key.at)));
        if owned.mappings.list[key.mapping.index()].expires_rows(command.gives_value) {
            return self.expire_row(key, &text, command);
        }
        match owned.cache.get(key.mapping, &text, self.session.now) {
            Some(entry) => {
                self.session.tally.add(RouteLabel::Write, Outcome::Ok, 1);
                let living = Living::in_memory(key.mapping, &text, &entry, self.session.peer.id);
                owned.change_life(&living, &command, self.session.proto(), self.out);
                Flow::Answered
            }
            None => self.expire_loaded(key, text, command),
        }
    }

    /// The key is loaded first.
    fn expire_loaded(&self, key: OwnedKey, text: Bytes, command: ExpireCommand) -> Flow {
        let (owned, metrics) = (self.services.owned.clone(), self.services.metrics.clone());
        let (proto, client) = (self.session.proto(), self.session.peer.id);
        let loading = owned.cache.load(key.mapping, &text, &mut self.session.asker());
        Flow::Later(Box::pin(async move {
            let mut out = BytesMut::new();
            let loaded = loading.await;
            metrics.commands.add(RouteLabel::Write, Outcome::of(&loaded), 1);
            match loaded {
                Ok(entry) => {
                    let living = Living::in_memory(key.mapping, &text, &entry, client);
                    owned.change_life(&living, &command, proto, &mut out);
                }
                Err(error) => encode::error(&mut out, &owned.load_error(key.mapping, &error)),
            }
            Ok(out.into())
        }))
    }

    /// A key that expires by a column of its row: the command is a deferred write.
    fn expire_row(&self, key: OwnedKey, text: &Bytes, command: ExpireCommand) -> Flow {
        let (owned, metrics) = (self.services.owned.clone(), self.services.metrics.clone());
        let (proto, gives_value) = (self.session.proto(), command.gives_value);
        // Whose it is is of interest only to one who is not to be told of it.
        let author = self.session.is_tracking().then(|| self.session.author(&key.spec.name));
        let expiring = owned.cache.expire(&self.services.together, (key.mapping, text), command, author);
        Flow::Later(Box::pin(async move {
            let mut out = BytesMut::new();
            let expired = expiring.await;
            metrics.commands.add(RouteLabel::Write, Outcome::of(&expired), 1);
            match expired {
                Err(error) => encode::error(&mut out, &owned.write_error(key.mapping, &error)),
                Ok(ended) => answer_lived(ended.record.as_ref(), &ended.life, gives_value, proto, &mut out),
            }
            Ok(out.into())
        }))
    }
}

/// The answer of such a command: what became of the life of the key that holds `record`.
pub fn answer_lived(
    record: Option<&Record>,
    life: &Result<Option<TtlChange>, ReadError>,
    gives_value: bool,
    proto: Proto,
    out: &mut BytesMut,
) {
    match life {
        Err(error) => encode::error(out, &error.to_string()),
        Ok(_) if gives_value => match record.and_then(Record::encoded_string) {
            Some(value) => out.put_slice(value),
            None => encode::null(out, proto),
        },
        Ok(life) => encode::int(out, i64::from(life.is_some())),
    }
}

/// A cached key whose expiry is to be changed.
#[derive(Clone, Copy)]
pub struct Living<'a> {
    /// Its mapping.
    pub mapping: MappingId,
    /// The key.
    pub key: &'a Bytes,
    /// What it holds.
    pub record: Option<&'a Record>,
    /// What is in memory.
    pub entry: Option<&'a Arc<Entry>>,
    /// The client that changes it.
    pub client: u64,
}

impl<'a> Living<'a> {
    /// The key of which `entry` is in memory.
    fn in_memory(mapping: MappingId, key: &'a Bytes, entry: &'a Arc<Entry>, client: u64) -> Self {
        Self { mapping, key, record: entry.record.as_ref(), entry: Some(entry), client }
    }

    /// What becomes of its life; `None`: nothing.
    fn changed(&self, command: &ExpireCommand, now: Tick) -> Result<Option<TtlChange>, ReadError> {
        match self.record {
            None => Ok(None),
            Some(record) if command.gives_value && record.shape() != Shape::String => Err(ReadError::WrongType),
            Some(_) => command.of(self.entry.and_then(|entry| entry.left(now))),
        }
    }
}

impl Owned {
    /// Changes how long memory keeps a key, and appends the answer.
    pub fn change_life(&self, living: &Living<'_>, command: &ExpireCommand, proto: Proto, out: &mut BytesMut) {
        let now = Tick::now();
        let life = living.changed(command, now);
        match (&life, living.entry) {
            // What has expired is forgotten: without a column that says so the next read finds the row again.
            (Ok(Some(TtlChange::Left(left))), _) if *left <= 0 => {
                self.metrics.invalidated("command");
                self.cache.invalidate(living.key, Cause::Asked("EXPIRE", living.client));
            }
            (Ok(Some(life @ (TtlChange::Left(_) | TtlChange::Persist))), Some(entry)) => {
                self.cache.change_ttl(living.mapping, living.key, entry, *life, now);
                self.tracking.changed(living.key, Some(living.client));
            }
            _ => {}
        }
        if let Ok(Some(life)) = &life {
            self.tell(living.key, || life.event().into_iter().collect());
        }
        answer_lived(living.record, &life, command.gives_value, proto, out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Living;
    use crate::command::{OwnedRequest, lookup};
    use crate::keys::MappingId;
    use crate::record::{ReadError, Record, TtlChange, Verb, verb_of};
    use crate::telemetry::clock::Tick;

    fn changed(line: &str, record: Option<&Record>) -> Result<Option<TtlChange>, ReadError> {
        let request =
            OwnedRequest::from_words(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        let spec = lookup(request.view().arg(0), b"").expect("a command");
        let Some(Verb::Expire(parse)) = verb_of(spec) else { unreachable!("{line} changes an end") };
        let command = parse(&request.view(), spec).expect("read");
        let key = Bytes::from_static(b"k:1");
        Living { mapping: MappingId::default(), key: &key, record, entry: None, client: 0 }
            .changed(&command, Tick::default())
    }

    #[test]
    fn the_end_of_a_key_changes_if_it_is_there_and_of_the_right_type() {
        let (hash, string) = (Record::hash(&[("a", "b")]).ok(), Record::string(b"v").ok());
        for (line, record, expected) in [
            ("EXPIRE k:1 10", &None, Ok(None)),
            ("EXPIRE k:1 10", &hash, Ok(Some(TtlChange::Left(10_000)))),
            ("EXPIRE k:1 10 XX", &hash, Ok(None)),
            ("PERSIST k:1", &hash, Ok(None)),
            ("GETEX k:1 PX 7", &string, Ok(Some(TtlChange::Left(7)))),
            ("GETEX k:1 PX 7", &hash, Err(ReadError::WrongType)),
            ("GETEX k:1 PX 7", &None, Ok(None)),
        ] {
            assert_eq!(changed(line, record.as_ref()), expected, "{line}");
        }
    }
}
