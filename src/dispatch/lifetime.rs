//! EXPIRE and its kin, PERSIST and GETEX on one cached key.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Context, Flow, Owned, Session, wrong_arity};
use crate::cache::{Ended, Entry};
use crate::command::{Request, Spec};
use crate::record::{Life, Lifetime, ReadError, Record, Shape};
use crate::resp::{Proto, encode};
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// Answers one of these commands; `None` for any other.
pub(super) fn answer(
    context: &Context,
    session: &mut Session,
    request: &Request<'_>,
    (mapping, at, spec): (usize, usize, &'static Spec),
    out: &mut BytesMut,
) -> Option<Flow> {
    let owned = &context.owned;
    if owned.is_definition(mapping) {
        return None;
    }
    let parsed = Lifetime::parse(request, spec)?;
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
    let is_string = owned.mappings.list[mapping].config.shape == Shape::String;
    if owned.cache.ends(mapping) && (is_string || !lifetime.gives_value) {
        return Some(by_column(owned, mapping, &key, lifetime, proto));
    }
    let there = owned.cache.get(mapping, &key, session.now);
    let loading = there.is_none().then(|| owned.cache.load(mapping, &key));
    let owned = owned.clone();
    let change = move |entry: &Arc<Entry>, out: &mut BytesMut| {
        owned.change_life(mapping, &key, (entry.record.as_ref(), Some(entry)), &lifetime, proto, out);
    };
    if let Some(entry) = there {
        change(&entry, out);
        return Some(Flow::Answered);
    }
    let owned = context.owned.clone();
    Some(Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match loading {
            Some(loading) => match loading.await {
                Ok(entry) => change(&entry, &mut out),
                Err(error) => encode::error(&mut out, &owned.load_error(mapping, &error)),
            },
            None => encode::int(&mut out, 0),
        }
        Ok(out.freeze())
    })))
}

/// A key that ends by its row's column: the command is a deferred write.
fn by_column(owned: &Arc<Owned>, mapping: usize, key: &Bytes, lifetime: Lifetime, proto: Proto) -> Flow {
    let (owned, gives_value) = (owned.clone(), lifetime.gives_value);
    let expiring = owned.cache.expire(mapping, key, lifetime);
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match expiring.await {
            Err(error) => encode::error(&mut out, &owned.write_error(mapping, &error)),
            Ok(ended) => answer_lived(&ended, gives_value, proto, &mut out),
        }
        Ok(out.freeze())
    }))
}

/// The answer of such a command.
pub fn answer_lived(ended: &Ended, gives_value: bool, proto: Proto, out: &mut BytesMut) {
    match ended {
        Ended { life: Err(error), .. } => encode::error(out, &error.to_string()),
        Ended { record, .. } if gives_value => match record.as_ref().and_then(Record::encoded_string) {
            Some(value) => out.put_slice(value),
            None => encode::null(out, proto),
        },
        Ended { life: Ok(life), .. } => encode::int(out, i64::from(life.is_some())),
    }
}

impl Owned {
    /// Changes the life of the key that holds `record`, and appends the answer; `entry` is what is in memory.
    pub fn change_life(
        &self,
        mapping: usize,
        key: &Bytes,
        (record, entry): (Option<&Record>, Option<&Arc<Entry>>),
        lifetime: &Lifetime,
        proto: Proto,
        out: &mut BytesMut,
    ) {
        if let Err(error) = self.try_change_life(mapping, key, (record, entry), lifetime, proto, out) {
            encode::error(out, &error.to_string());
        }
    }

    fn try_change_life(
        &self,
        mapping: usize,
        key: &Bytes,
        (record, entry): (Option<&Record>, Option<&Arc<Entry>>),
        lifetime: &Lifetime,
        proto: Proto,
        out: &mut BytesMut,
    ) -> Result<(), ReadError> {
        let Some(record) = record else {
            if lifetime.gives_value {
                encode::null(out, proto)
            } else {
                encode::int(out, 0)
            }
            return Ok(());
        };
        if lifetime.gives_value && record.shape() != Shape::String {
            return Err(ReadError::WrongType);
        }
        let now = now_ms();
        let life = lifetime.of(entry.and_then(|entry| entry.left(now)))?;
        match life {
            None | Some(Life::Keep) => {}
            // What has ended is forgotten: without a column that says so the next read finds the row again.
            Some(Life::Left(left)) if left <= 0 => {
                self.metrics.invalidated("command");
                self.cache.invalidate(key);
            }
            Some(life) => {
                if let Some(entry) = entry {
                    self.cache.live(mapping, key, entry, life, now);
                }
            }
        }
        match record.encoded_string().filter(|_| lifetime.gives_value) {
            Some(value) => out.put_slice(value),
            None => encode::int(out, i64::from(life.is_some())),
        }
        Ok(())
    }
}
