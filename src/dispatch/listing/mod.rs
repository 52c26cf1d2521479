//! KEYS and SCAN: the upstream's keys and the owned ones, each once.
//!
//! A SCAN begins with definitions, goes on with each cached mapping in the store's order, and ends with the upstream's
//! own iteration. Where it stands is kept for a while (`scans.rs`); its number is the cursor, with a bit
//! that no cursor of an upstream has.

mod cluster;
pub mod scans;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::reply_room::Room;
use super::{Flow, Owned, Services, error_reply};
use crate::cache::After;
use crate::command::Request;
use crate::errors;
use crate::keys::{MappingId, glob_match};
use crate::mapping::{Kind, Mapping};
use crate::resp::number::parse_i64;
use crate::resp::pieces::Pieces;
use crate::resp::{decode, encode, reply};
use crate::route::Router;
use crate::session::Session;
use crate::store::StoreError;
use crate::upstream::{Batch, Broken, Ticket, Tour};
use scans::{OURS, Place};

/// Rows asked for at once by KEYS.
const PAGE: usize = 5000;

/// What a SCAN or KEYS asks for.
struct Wish {
    pattern: Option<Vec<u8>>,
    shape: Option<Vec<u8>>,
    count: usize,
}

impl Wish {
    /// SCAN's options; `None` when they are faulty: then the upstream answers with its error.
    fn of_scan(request: &Request<'_>) -> Option<Self> {
        let mut wish = Self { pattern: None, shape: None, count: 10 };
        for at in (2..request.len()).step_by(2) {
            let value = request.arg(at + 1);
            match () {
                () if at + 1 >= request.len() => return None,
                () if request.is(at, "MATCH") => wish.pattern = Some(value.to_vec()),
                () if request.is(at, "TYPE") => wish.shape = Some(value.to_ascii_lowercase()),
                () if request.is(at, "COUNT") => {
                    wish.count = parse_i64(value).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)?.min(PAGE);
                }
                () => return None,
            }
        }
        Some(wish)
    }

    /// True when keys of the mapping may match at all.
    fn concerns(&self, mapping: &Mapping) -> bool {
        let is_shape = self.shape.as_ref().is_none_or(|shape| shape == mapping.config.shape.name().as_bytes());
        let (literals, _) = mapping.pattern.pieces();
        let first = literals.first().map(String::as_bytes).unwrap_or_default();
        let prefix: &[u8] = self.pattern.as_deref().unwrap_or_default();
        let prefix = &prefix[..prefix.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(prefix.len())];
        let common = prefix.len().min(first.len());
        is_shape && (self.pattern.is_none() || prefix[..common] == first[..common])
    }

    fn matches(&self, key: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| glob_match(pattern, key))
    }
}

/// The owned keys that are listed.
struct Ours {
    owned: Arc<Owned>,
    router: Arc<Router>,
}

impl Ours {
    fn of(services: &Services) -> Self {
        Self { owned: services.owned.clone(), router: services.router.clone() }
    }

    /// The mappings from `id` on that may own keys which are asked for.
    fn mappings<'o>(&'o self, wish: &'o Wish, id: MappingId) -> impl Iterator<Item = &'o Mapping> {
        let from = self.owned.mappings.list.iter().skip(id.index());
        from.filter(|mapping| self.router.modes.owns_some(mapping.id) && wish.concerns(mapping))
    }

    /// The error for a listing of keys that are not known before the store has answered.
    fn not_yet(&self, wish: &Wish) -> Option<String> {
        let waits = self.mappings(wish, MappingId::default()).find(|mapping| self.owned.is_loading(mapping.id))?;
        Some(self.owned.loading_error(waits.id))
    }

    /// Those of a mapping's keys that are owned and asked for.
    fn chosen<'k, K>(&self, wish: &Wish, mapping: MappingId, keys: K) -> impl Iterator<Item = &'k [u8]>
    where
        K: IntoIterator<Item = &'k [u8]>,
    {
        // A row of the mapping may have a key of a more specific one.
        keys.into_iter().filter(move |key| wish.matches(key) && self.router.owner(key) == Some(mapping))
    }
}

pub(super) fn keys(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let wish = Wish { pattern: Some(request.arg(1).to_vec()), shape: None, count: PAGE };
    let ours = Ours::of(services);
    if let Some(text) = ours.not_yet(&wish) {
        encode::error(out, &text);
        return Flow::Answered;
    }
    let theirs = Theirs::ask(services, session, request);
    let mut room = Room::of(services, session);
    Flow::Later(Box::pin(async move {
        let found = match every_key(&ours, &wish, &mut room).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(error_reply(errors::limits::REPLY_TOO_LONG)),
            Err((mapping, error)) => return Ok(error_reply(&ours.owned.load_error(mapping, &error))),
        };
        // The upstream's reply is counted where it waits.
        let theirs = match theirs.keys(&wish).await? {
            Ok(theirs) => theirs,
            Err(reply) => return Ok(reply.into()),
        };
        let length = theirs.iter().map(Bytes::len).sum();
        if !room.takes(length, length) {
            return Ok(error_reply(errors::limits::REPLY_TOO_LONG));
        }
        let is_shown = |bulk: &Bytes| !is_hidden(&ours.router, bulk) && !found.on_both_sides.contains(bulk);
        let theirs: Vec<Bytes> = theirs.into_iter().filter(is_shown).collect();
        let mut all = Pieces::default();
        encode::array(all.tail(), theirs.len() + found.count);
        theirs.iter().for_each(|bulk| all.tail().put_slice(bulk));
        all.append_all(found.bulks);
        Ok(all)
    }))
}

/// The upstream's answer to KEYS, on its way.
enum Theirs {
    Server(Ticket),
    Cluster(cluster::Listing),
}

impl Theirs {
    fn ask(services: &Services, session: &mut Session, request: &Request<'_>) -> Self {
        match cluster::Listing::begin(services, session, request) {
            Some(listing) => Self::Cluster(listing),
            None => Self::Server(submit(services, session, request)),
        }
    }

    /// The keys, as bulk strings; another reply is what the client gets.
    async fn keys(self, wish: &Wish) -> Result<Result<Vec<Bytes>, Bytes>, Broken> {
        match self {
            Self::Server(ticket) => {
                let reply = ticket.whole().await?;
                let keys = reply::elements(&reply);
                let keys = keys.map(|keys| keys.into_iter().map(|key| reply.slice_ref(key)).collect());
                Ok(keys.ok_or(reply))
            }
            Self::Cluster(listing) => listing.keys(wish).await,
        }
    }
}

/// Keys as bulk strings.
#[derive(Default)]
struct Found {
    count: usize,
    bulks: Pieces,
    /// Those that the upstream may have, too, and list.
    on_both_sides: HashSet<Bytes>,
}

impl Found {
    /// Adds these keys; false when there is no room for them.
    fn add<'k>(&mut self, router: &Router, keys: impl Iterator<Item = &'k [u8]>, room: &mut Room) -> bool {
        for key in keys {
            let may_be_theirs = router.modes.falls_back_somewhere() && router.falls_back(key).is_some();
            if may_be_theirs && self.on_both_sides.insert(bulk(key)) && !room.takes(key.len(), size_of::<Bytes>()) {
                return false;
            }
            let before = self.bulks.tail().len();
            encode::bulk(self.bulks.tail(), key);
            self.count += 1;
            if !room.takes(self.bulks.tail().len() - before, 0) {
                return false;
            }
            self.bulks.settle();
        }
        true
    }
}

/// Every owned key that is asked for; `None` when there is no room for them.
async fn every_key(ours: &Ours, wish: &Wish, room: &mut Room) -> Result<Option<Found>, (MappingId, StoreError)> {
    let (snapshot, mut found) = (ours.owned.definitions.snapshot(), Found::default());
    for mapping in ours.mappings(wish, MappingId::default()) {
        if mapping.kind == Kind::Definition {
            if !found.add(&ours.router, ours.chosen(wish, mapping.id, snapshot.keys(mapping.id)), room) {
                return Ok(None);
            }
            continue;
        }
        let mut after = Some(After::new());
        while let Some(place) = after {
            let (keys, next) = ours.owned.cache.page(mapping.id, &place, PAGE).await.map_err(|e| (mapping.id, e))?;
            if !found.add(&ours.router, ours.chosen(wish, mapping.id, keys.iter().map(|key| &**key)), room) {
                return Ok(None);
            }
            after = next;
        }
    }
    Ok(Some(found))
}

pub(super) fn scan(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let cursor = std::str::from_utf8(request.arg(1)).ok().and_then(|text| text.parse::<u64>().ok());
    let (Some(cursor), Some(wish)) = (cursor, Wish::of_scan(request)) else {
        return Flow::Upstream(submit(services, session, request));
    };
    let (owned, ours) = (&services.owned, Ours::of(services));
    if let Some(text) = ours.not_yet(&wish).filter(|_| cursor == 0) {
        encode::error(out, &text);
        return Flow::Answered;
    }
    let place = match cursor {
        0 => next_mapping(&ours, &wish, MappingId::default()),
        cursor if cursor & OURS == 0 && !services.upstream.is_cluster() => {
            return upstream(services, session, request, cursor);
        }
        cursor => match owned.scans.find(cursor) {
            Some(place) => place,
            None => {
                encode::error(out, errors::owned::FORGOTTEN_CURSOR);
                return Flow::Answered;
            }
        },
    };
    if matches!(place, Place::Master(..) | Place::Slots(..)) && services.lane(session).cluster().is_none() {
        encode::error(out, errors::owned::FORGOTTEN_CURSOR);
        return Flow::Answered;
    }
    match place {
        Place::Upstream => match Tour::begin(services.lane(session)) {
            Some(tour) => cluster::page(services, session, request, wish, cluster::Turn::first(tour, cursor)),
            None => upstream(services, session, request, 0),
        },
        Place::Master(tour, at, theirs) => {
            cluster::page(services, session, request, wish, cluster::Turn::at(tour, at, theirs, cursor))
        }
        Place::Slots(tour, slot) => cluster::again(services, session, wish, cluster::Again { tour, slot, cursor }),
        Place::Definitions(mapping, after) => {
            let (found, next) = defined(&ours, &wish, mapping, after.as_ref());
            out.put_slice(&page(owned.scans.keep(next, cursor), &found));
            Flow::Answered
        }
        Place::Cached(mapping, after) => Flow::Later(Box::pin(async move {
            Ok(match cached(&ours, &wish, mapping, &after).await {
                Err(error) => error_reply(&ours.owned.load_error(mapping, &error)),
                Ok((found, next)) => page(ours.owned.scans.keep(next, cursor), &found).into(),
            })
        })),
    }
}

/// The next keys of a mapping's definitions, and where the SCAN stands then.
fn defined(ours: &Ours, wish: &Wish, mapping: MappingId, after: Option<&Bytes>) -> (Vec<Bytes>, Place) {
    let snapshot = ours.owned.definitions.snapshot();
    let keys: Vec<&Bytes> = snapshot.keys_after(mapping, after).take(wish.count).collect();
    let place = match keys.last() {
        // Of its own: the set that it is of may be replaced.
        Some(last) if keys.len() == wish.count => Place::Definitions(mapping, Some(Bytes::copy_from_slice(last))),
        _ => next_mapping(ours, wish, mapping.next()),
    };
    (ours.chosen(wish, mapping, keys.into_iter().map(|key| &**key)).map(bulk).collect(), place)
}

/// The next keys of a cached mapping, and where the SCAN stands then.
async fn cached(
    ours: &Ours,
    wish: &Wish,
    mapping: MappingId,
    after: &After,
) -> Result<(Vec<Bytes>, Place), StoreError> {
    let (keys, next) = ours.owned.cache.page(mapping, after, wish.count).await?;
    let place = match next {
        Some(after) => Place::Cached(mapping, after),
        None => next_mapping(ours, wish, mapping.next()),
    };
    Ok((ours.chosen(wish, mapping, keys.iter().map(|key| &**key)).map(bulk).collect(), place))
}

/// The beginning of the first mapping from `id` on that may have such keys.
fn next_mapping(ours: &Ours, wish: &Wish, id: MappingId) -> Place {
    match ours.mappings(wish, id).next() {
        None => Place::Upstream,
        Some(mapping) if mapping.kind == Kind::Definition => Place::Definitions(mapping.id, None),
        Some(mapping) => Place::Cached(mapping.id, After::new()),
    }
}

/// The upstream's own iteration; keys that are ours by their names are not in it.
fn upstream(services: &Services, session: &mut Session, request: &Request<'_>, cursor: u64) -> Flow {
    let cursor = cursor.to_string();
    let mut words: Vec<&[u8]> = request.args_from(0).collect();
    words[1] = cursor.as_bytes();
    let ticket = services.ask(session, &words, true);
    let router = services.router.clone();
    Flow::Later(Box::pin(async move {
        let reply = ticket.whole().await?;
        Ok(match reply::elements(&reply).as_deref() {
            Some([next, keys]) => match reply::elements(keys) {
                Some(keys) => {
                    let kept: Vec<&[u8]> = keys.into_iter().filter(|bulk| !is_hidden(&router, bulk)).collect();
                    let mut out = BytesMut::new();
                    encode::array(&mut out, 2);
                    out.put_slice(next);
                    out.put_slice(&array(&kept));
                    out.into()
                }
                None => reply.clone().into(),
            },
            _ => reply.clone().into(),
        })
    }))
}

fn submit(services: &Services, session: &mut Session, request: &Request<'_>) -> Ticket {
    let run = Batch::one(Bytes::copy_from_slice(request.raw()), true);
    services.lane(session).submit(run)
}

fn is_hidden(router: &Router, bulk: &[u8]) -> bool {
    decode::bulk(bulk).is_some_and(|key| router.hides(key))
}

fn bulk(key: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode::bulk(&mut out, key);
    out.freeze()
}

fn array<E: AsRef<[u8]>>(elements: &[E]) -> Bytes {
    let mut out = BytesMut::new();
    encode::array(&mut out, elements.len());
    elements.iter().for_each(|element| out.put_slice(element.as_ref()));
    out.freeze()
}

fn page(cursor: u64, keys: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    encode::array(&mut out, 2);
    encode::bulk(&mut out, cursor.to_string().as_bytes());
    out.put_slice(&array(keys));
    out.freeze()
}
