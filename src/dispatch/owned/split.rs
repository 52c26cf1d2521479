//! DEL, UNLINK, EXISTS, TOUCH and MGET over owned keys, perhaps with pass-through keys among them: split, sent, joined.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Found, string_of};
use crate::cache::WriteResult;
use crate::command::{Request, Spec};
use crate::config::DeleteMode;
use crate::dispatch::reply_room::{Room, TOO_LONG};
use crate::dispatch::{Flow, Services, error_reply, wrong_arity};
use crate::record::Write;
use crate::resp::pieces::{Elements, Pieces};
use crate::resp::{Proto, decode, encode};
use crate::session::Session;
use crate::store::StoreError;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// One key's part of the answer.
enum Part {
    /// The next element of the upstream's reply.
    Upstream,
    /// There (with its string) or absent.
    Known(Option<Bytes>),
    /// Being loaded, for this mapping.
    Loading(usize, Found),
    /// Its rows are being deleted, for this mapping.
    Deleting(usize, Pin<Box<dyn Future<Output = WriteResult>>>),
}

/// True for DEL and UNLINK.
#[must_use]
pub fn removes(spec: &Spec) -> bool {
    matches!(spec.name.as_str(), "del" | "unlink")
}

pub(crate) fn answer(
    services: &Services,
    session: &mut Session,
    request: &Request<'_>,
    keys: &[usize],
    spec: &'static Spec,
    out: &mut BytesMut,
) -> Flow {
    if !spec.accepts(request.len()) {
        wrong_arity(spec, out);
        return Flow::Answered;
    }
    session.tally.add(RouteLabel::Split, Outcome::Ok, 1);
    let removes = removes(spec);
    if removes && let Some(refusal) = undeletable(services, request, keys) {
        return crate::dispatch::refuse(session, &refusal, out);
    }
    let snapshot = services.owned.definitions.snapshot();
    let (owned, proto, values) = (services.owned.clone(), session.proto(), spec.name == "mget");
    let (mut parts, mut foreign) = (Vec::with_capacity(keys.len()), vec![request.arg(0)]);
    let mut room = Room::of(services, session);
    for at in keys {
        let key = request.arg(*at);
        parts.push(match services.router.owner(key) {
            None => {
                foreign.push(key);
                Part::Upstream
            }
            Some(mapping) if removes => owned.remove(mapping, key),
            Some(mapping) => match owned.find(&snapshot, session, (mapping, key), values) {
                Found::Now(entry, known) => {
                    if let Some(entry) = entry.filter(|_| spec.name != "exists") {
                        owned.cache.renew(key, &entry, session.now);
                    }
                    if !room.takes(length(known.as_ref()), size_of::<Part>()) {
                        encode::error(out, TOO_LONG);
                        return Flow::Answered;
                    }
                    Part::Known(known)
                }
                loading => Part::Loading(mapping, loading),
            },
        });
    }
    let ticket = (foreign.len() > 1).then(|| services.ask(session, &foreign, spec.flags.readonly));
    Flow::Later(Box::pin(async move {
        let mut known: Vec<Option<Option<Bytes>>> = vec![None; parts.len()];
        let mut under_way = FuturesUnordered::new();
        for (at, part) in parts.into_iter().enumerate() {
            match part {
                Part::Upstream => {}
                Part::Known(part) => known[at] = Some(part),
                part => under_way.push(async move { (at, resolve(part, values).await) }),
            }
        }
        // Each counts when it is there, wherever its place is.
        while let Some((at, resolved)) = under_way.next().await {
            match resolved {
                Ok(part) if !room.takes(length(part.as_ref()), size_of::<Part>()) => return Ok(error_reply(TOO_LONG)),
                Ok(part) => known[at] = Some(part),
                Err((mapping, error)) if removes => return Ok(error_reply(&owned.write_error(mapping, &error))),
                Err((mapping, error)) => return Ok(error_reply(&owned.load_error(mapping, &error))),
            }
        }
        // What the upstream says counts where it waits.
        let (upstream, pushes) = match ticket {
            Some(ticket) => ticket.parts().await.map(|(reply, pushes)| (Some(reply), pushes))?,
            None => (None, Bytes::new()),
        };
        let mut reply = Pieces::from(pushes);
        reply.append_all(if values { join_values(known, upstream, proto) } else { join_counts(&known, upstream) });
        Ok(reply)
    }))
}

/// The refusal of a DEL that names a definition: nothing of it is done.
fn undeletable(services: &Services, request: &Request<'_>, keys: &[usize]) -> Option<String> {
    keys.iter().find_map(|at| {
        let mapping = services.router.owner(request.arg(*at))?;
        services.owned.is_definition(mapping).then(|| services.router.unanswered(request, *at, mapping))
    })
}

impl crate::dispatch::Owned {
    /// DEL on a cached key deletes its rows where the mapping says so. Elsewhere it is forgotten: it was there, if a
    /// record was in memory.
    fn remove(&self, mapping: usize, key: &[u8]) -> Part {
        if self.mappings.list[mapping].config.delete == DeleteMode::Row {
            let key = Bytes::copy_from_slice(key);
            return Part::Deleting(mapping, Box::pin(self.cache.write(mapping, &key, &Write::delete())));
        }
        self.metrics.invalidated("command");
        Part::Known(self.cache.invalidate(key).then(Bytes::new))
    }
}

fn length(value: Option<&Bytes>) -> usize {
    value.map_or(0, Bytes::len)
}

/// What an owned key is known to be when that has come.
async fn resolve(part: Part, values: bool) -> Result<Option<Bytes>, (usize, StoreError)> {
    match part {
        Part::Upstream => Ok(None),
        Part::Known(known) | Part::Loading(_, Found::Now(_, known)) => Ok(known),
        Part::Loading(mapping, Found::Loading(loading)) => {
            let entry = loading.await.map_err(|error| (mapping, error))?;
            Ok(entry.record.as_ref().map(|record| string_of(record, values)))
        }
        Part::Deleting(mapping, deleting) => {
            let written = deleting.await.map_err(|error| (mapping, error))?;
            Ok(written.old.map(|_| Bytes::new()))
        }
    }
}

/// The sum of what both sides counted; the upstream's error if it has one.
fn join_counts(known: &[Option<Option<Bytes>>], upstream: Option<Pieces>) -> Pieces {
    let counted = match upstream.map(Pieces::whole) {
        None => 0,
        Some(reply) => match decode::integer(&reply) {
            Some(counted) => counted,
            None => return reply.into(),
        },
    };
    let ours = known.iter().filter(|part| matches!(part, Some(Some(_)))).count() as i64;
    let mut out = BytesMut::new();
    encode::int(&mut out, counted + ours);
    out.into()
}

/// Each key's value in its place; the upstream's error if it has one.
fn join_values(known: Vec<Option<Option<Bytes>>>, upstream: Option<Pieces>, proto: Proto) -> Pieces {
    let mut elements = match upstream.map_or_else(|| Ok(Elements::none()), Elements::of) {
        Ok(elements) => elements,
        Err(reply) => return reply,
    };
    let mut out = Pieces::default();
    encode::array(out.tail(), known.len());
    for part in known {
        match part {
            None => elements.pass(&mut out),
            // Keys of another type are null to MGET, as in Redis.
            Some(Some(encoded)) if !encoded.is_empty() => out.append(encoded),
            Some(_) => encode::null(out.tail(), proto),
        }
        out.settle();
    }
    out
}
