//! EXPIRE and its kin, PERSIST and GETEX on one cached key.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::cache::Entry;
use crate::command::{Request, Spec};
use crate::dispatch::{Flow, Owned, Services, wrong_arity};
use crate::record::{ExpireCommand, ReadError, Record, Shape, TtlChange};
use crate::resp::{Proto, encode};
use crate::session::Session;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// Answers one of these commands; `None` for any other.
pub(crate) fn answer(
    services: &Services,
    session: &mut Session,
    request: &Request<'_>,
    (mapping, at, spec): (usize, usize, &'static Spec),
    out: &mut BytesMut,
) -> Option<Flow> {
    let owned = &services.owned;
    if owned.is_definition(mapping) {
        return None;
    }
    let parsed = ExpireCommand::parse(request, spec)?;
    if !spec.accepts(request.len()) {
        wrong_arity(spec, out);
        return Some(Flow::Answered);
    }
    let lifetime = match parsed {
        Ok(lifetime) => lifetime,
        Err(error) => {
            encode::error(out, &error.to_string());
            return Some(Flow::Answered);
        }
    };
    session.tally.add(RouteLabel::Write, Outcome::Ok, 1);
    let (key, proto) = (Bytes::copy_from_slice(request.arg(at)), session.proto());
    if owned.ends_by_column(mapping, &lifetime) {
        return Some(by_column(owned, mapping, &key, lifetime, proto));
    }
    if let Some(entry) = owned.cache.get(mapping, &key, session.now) {
        owned.change_life(mapping, &key, (entry.record.as_ref(), Some(&entry)), &lifetime, proto, out);
        return Some(Flow::Answered);
    }
    let (loading, owned) = (owned.cache.load(mapping, &key), owned.clone());
    Some(Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match loading.await {
            Ok(entry) => {
                owned.change_life(mapping, &key, (entry.record.as_ref(), Some(&entry)), &lifetime, proto, &mut out);
            }
            Err(error) => encode::error(&mut out, &owned.load_error(mapping, &error)),
        }
        Ok(out.into())
    })))
}

/// A key that ends by its row's column: the command is a deferred write.
fn by_column(owned: &Arc<Owned>, mapping: usize, key: &Bytes, lifetime: ExpireCommand, proto: Proto) -> Flow {
    let (owned, gives_value) = (owned.clone(), lifetime.gives_value);
    let expiring = owned.cache.expire(mapping, key, lifetime);
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match expiring.await {
            Err(error) => encode::error(&mut out, &owned.write_error(mapping, &error)),
            Ok(ended) => answer_lived(ended.record.as_ref(), &ended.life, gives_value, proto, &mut out),
        }
        Ok(out.into())
    }))
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

impl Owned {
    /// True when the command changes when the row ends, and not only how long memory keeps it.
    #[must_use]
    pub fn ends_by_column(&self, mapping: usize, lifetime: &ExpireCommand) -> bool {
        let is_string = self.mappings.list[mapping].config.shape == Shape::String;
        self.cache.ends(mapping) && (is_string || !lifetime.gives_value)
    }

    /// Changes how long memory keeps the key that holds `record`, and appends the answer; `entry` is what is in memory.
    pub fn change_life(
        &self,
        mapping: usize,
        key: &Bytes,
        (record, entry): (Option<&Record>, Option<&Arc<Entry>>),
        lifetime: &ExpireCommand,
        proto: Proto,
        out: &mut BytesMut,
    ) {
        let now = now_ms();
        let life = match record {
            None => Ok(None),
            Some(record) if lifetime.gives_value && record.shape() != Shape::String => Err(ReadError::WrongType),
            Some(_) => lifetime.of(entry.and_then(|entry| entry.left(now))),
        };
        match (&life, entry) {
            // What has ended is forgotten: without a column that says so the next read finds the row again.
            (Ok(Some(TtlChange::Left(left))), _) if *left <= 0 => {
                self.metrics.invalidated("command");
                self.cache.invalidate(key);
            }
            (Ok(Some(life @ (TtlChange::Left(_) | TtlChange::Persist))), Some(entry)) => {
                self.cache.live(mapping, key, entry, *life, now);
            }
            _ => {}
        }
        answer_lived(record, &life, lifetime.gives_value, proto, out);
    }
}
