//! KEYS and SCAN over the masters of a cluster: one master after the other, and behind the last one once more the slots
//! that were on their way since the beginning (decision 0036).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::scans::Place;
use super::{Wish, is_hidden, page as encoded};
use crate::command::{Request, slot_of};
use crate::dispatch::spread::by_node::ByNode;
use crate::dispatch::spread::joint::join;
use crate::dispatch::{Flow, Owned, Services};
use crate::resp::pieces::Pieces;
use crate::resp::{decode, encode, reply};
use crate::route::{Joint, Reach, Router};
use crate::session::Session;
use crate::upstream::{Batch, Broken, Lane, Surveyor, To, Tour};

/// Slots that are read again for one page, at least and at most: as many as keys are asked for.
const SLOTS_AT_LEAST: usize = 16;
const SLOTS_AT_MOST: usize = 256;

/// What a page needs of the client.
struct Desk {
    lane: Lane,
    surveyor: Surveyor,
    owned: Arc<Owned>,
    router: Arc<Router>,
    wish: Wish,
}

impl Desk {
    fn of(services: &Services, session: &mut Session, wish: Wish) -> Self {
        Self {
            lane: services.lane(session).clone(),
            surveyor: surveyor(services, session),
            owned: services.owned.clone(),
            router: services.router.clone(),
            wish,
        }
    }

    /// The page of these keys, behind which the scan stands there.
    fn page(&self, next: Option<Place>, cursor: u64, keys: &[Bytes]) -> Bytes {
        let kept: Vec<Bytes> = keys.iter().filter(|bulk| !is_hidden(&self.router, bulk)).cloned().collect();
        encoded(next.map_or(0, |place| self.owned.scans.keep(place, cursor)), &kept)
    }

    /// Where the scan stands behind the last master; `None` at its end.
    async fn behind_masters(&self, tour: &Arc<Tour>) -> Result<Result<Option<Place>, Bytes>, Broken> {
        if let Err(reply) = self.surveyor.look().await? {
            return Ok(Err(reply));
        }
        Ok(self.slots_from(tour, 0))
    }

    fn slots_from(&self, tour: &Arc<Tour>, slot: u16) -> Result<Option<Place>, Bytes> {
        let next = self.surveyor.changed(tour, slot, 1)?.first().copied();
        Ok(next.map(|slot| Place::Slots(tour.clone(), slot)))
    }

    /// Those of the keys that are asked for.
    async fn chosen(&self, keys: Vec<Bytes>) -> Result<Vec<Bytes>, Broken> {
        let matches = |bulk: &Bytes| decode::bulk(bulk).is_some_and(|key| self.wish.matches(key));
        let mut keys: Vec<Bytes> = keys.into_iter().filter(matches).collect();
        if let Some(shape) = &self.wish.shape {
            let questions = keys.iter().map(|bulk| {
                let key = decode::bulk(bulk).unwrap_or_default();
                (To::Slot(slot_of(key)), encode::request_of(&[&b"TYPE"[..], key]))
            });
            let replies = self.lane.submit(Batch::each(questions, true)).whole().await?;
            let shapes = reply::each(&replies);
            let mut shapes = shapes.iter().map(|reply| reply.strip_prefix(b"+").unwrap_or_default().trim_ascii_end());
            keys.retain(|_| shapes.next() == Some(shape));
        }
        Ok(keys)
    }
}

fn surveyor(services: &Services, session: &Session) -> Surveyor {
    services.upstream.surveyor(session.group.db, session.peer.id, &session.account)
}

/// Where a SCAN goes on among the masters.
pub(super) struct Turn {
    tour: Arc<Tour>,
    at: usize,
    /// The master's cursor.
    theirs: u64,
    /// The client's.
    cursor: u64,
}

impl Turn {
    pub(super) fn first(tour: Tour, cursor: u64) -> Self {
        Self { tour: Arc::new(tour), at: 0, theirs: 0, cursor }
    }

    pub(super) const fn at(tour: Arc<Tour>, at: usize, theirs: u64, cursor: u64) -> Self {
        Self { tour, at, theirs, cursor }
    }
}

/// The next page of a master.
pub(super) fn page(services: &Services, session: &mut Session, request: &Request<'_>, wish: Wish, turn: Turn) -> Flow {
    let desk = Desk::of(services, session, wish);
    let Turn { tour, at, theirs, cursor } = turn;
    let there = tour.still_there(&desk.lane, at);
    let theirs = if there == at { theirs } else { 0 };
    let asked = tour.stop(there).map(|to| {
        let theirs = theirs.to_string();
        let mut words: Vec<&[u8]> = request.args_from(0).collect();
        words[1] = theirs.as_bytes();
        desk.lane.submit(Batch::one(encode::request_of(&words), true).to(to))
    });
    Flow::Later(Box::pin(async move {
        let Some(asked) = asked else {
            return Ok(match desk.behind_masters(&tour).await? {
                Ok(next) => desk.page(next, cursor, &[]).into(),
                Err(reply) => reply.into(),
            });
        };
        let reply = asked.whole().await?;
        let (behind, keys) = match read(&reply) {
            Some((next @ 1.., keys)) => {
                return Ok(desk.page(Some(Place::Master(tour, there, next)), cursor, &keys).into());
            }
            Some((0, keys)) => (there + 1, keys),
            // It was a master until a moment ago: what it had is read wherever it is now.
            None if tour.still_there(&desk.lane, there) > there => (there + 1, Vec::new()),
            None => return Ok(reply.into()),
        };
        let at = tour.still_there(&desk.lane, behind);
        let next = match tour.stop(at) {
            Some(_) => Some(Place::Master(tour, at, 0)),
            None => match desk.behind_masters(&tour).await? {
                Ok(next) => next,
                Err(reply) => return Ok(reply.into()),
            },
        };
        Ok(desk.page(next, cursor, &keys).into())
    }))
}

/// A master's reply to SCAN.
fn read(reply: &Bytes) -> Option<(u64, Vec<Bytes>)> {
    let parts = reply::elements(reply)?;
    let [next, keys] = parts[..] else { return None };
    let next = std::str::from_utf8(decode::bulk(next)?).ok()?.parse().ok()?;
    Some((next, reply::elements(keys)?.into_iter().map(|key| reply.slice_ref(key)).collect()))
}

/// Where a SCAN goes on among the slots that are read once more.
pub(super) struct Again {
    pub(super) tour: Arc<Tour>,
    pub(super) slot: u16,
    pub(super) cursor: u64,
}

/// The next slots that were on their way.
pub(super) fn again(services: &Services, session: &mut Session, wish: Wish, again: Again) -> Flow {
    let desk = Desk::of(services, session, wish);
    let Again { tour, slot, cursor } = again;
    Flow::Later(Box::pin(async move {
        let most = desk.wish.count.clamp(SLOTS_AT_LEAST, SLOTS_AT_MOST);
        let slots = match desk.surveyor.changed(&tour, slot, most) {
            Ok(slots) => slots,
            Err(reply) => return Ok(reply.into()),
        };
        let keys = match desk.surveyor.keys(&slots).await? {
            Ok(keys) => desk.chosen(keys).await?,
            Err(reply) => return Ok(reply.into()),
        };
        let next = slots.last().map_or(Ok(None), |last| desk.slots_from(&tour, last + 1));
        Ok(next.map_or_else(Pieces::from, |next| desk.page(next, cursor, &keys).into()))
    }))
}

/// KEYS of all masters, on its way.
pub(super) struct Listing {
    tour: Tour,
    surveyor: Surveyor,
    asked: ByNode,
}

impl Listing {
    /// Asks all masters; `None` where there is no cluster.
    pub(super) fn begin(services: &Services, session: &mut Session, request: &Request<'_>) -> Option<Self> {
        let tour = Tour::begin(services.lane(session))?;
        let surveyor = surveyor(services, session);
        let request = Bytes::copy_from_slice(request.raw());
        let asked = ByNode::send(services.lane(session), Reach::Masters, &request, true);
        Some(Self { tour, surveyor, asked })
    }

    /// Every key once, as bulk strings; another reply is what the client gets.
    pub(super) async fn keys(self, wish: &Wish) -> Result<Result<Vec<Bytes>, Bytes>, Broken> {
        let reply = join(Joint::Listed, &self.asked.replies().await?.0);
        let Some(found) = reply::elements(&reply) else { return Ok(Err(reply)) };
        let mut found: Vec<Bytes> = found.into_iter().map(|key| reply.slice_ref(key)).collect();
        if let Err(reply) = self.surveyor.look().await? {
            return Ok(Err(reply));
        }
        let changed = |from| self.surveyor.changed(&self.tour, from, SLOTS_AT_MOST);
        let mut slots = match changed(0) {
            Ok(slots) => slots,
            Err(reply) => return Ok(Err(reply)),
        };
        if slots.is_empty() {
            return Ok(Ok(found));
        }
        while let Some(last) = slots.last().copied() {
            match self.surveyor.keys(&slots).await? {
                Ok(keys) => {
                    found.extend(keys.into_iter().filter(|b| decode::bulk(b).is_some_and(|key| wish.matches(key))))
                }
                Err(reply) => return Ok(Err(reply)),
            }
            slots = match changed(last + 1) {
                Ok(slots) => slots,
                Err(reply) => return Ok(Err(reply)),
            };
        }
        let mut seen = HashSet::new();
        found.retain(|key| seen.insert(key.clone()));
        Ok(Ok(found))
    }
}
