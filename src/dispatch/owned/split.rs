//! DEL, UNLINK, EXISTS, TOUCH and MGET over several owned keys, perhaps with pass-through keys among them: the request
//! is split, its parts are answered, and the replies are joined.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::read::outcome;
use crate::config::DeleteMode;
use crate::definitions::Snapshot;
use crate::dispatch::call::Call;
use crate::dispatch::reply_room::Room;
use crate::dispatch::spread::by_slot::BySlot;
use crate::dispatch::{Flow, Owned, error_reply};
use crate::errors;
use crate::keys::MappingId;
use crate::quota::Asker;
use crate::record::{Record, Write};
use crate::resp::pieces::{Elements, Pieces};
use crate::resp::{Proto, decode, encode};
use crate::route::{Holder, Joint, Split, SplitKeys};
use crate::store::StoreError;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Broken, Ticket};

/// One key's part of the answer.
#[derive(Clone)]
pub(in crate::dispatch) enum Part {
    /// The next element of the upstream's reply.
    Upstream,
    /// There is no such key.
    Absent,
    /// It is there. With MGET its encoded string, which is empty for other shapes.
    There(Bytes),
}

impl Part {
    /// What the record of a key means to the command.
    pub(in crate::dispatch) fn of(record: Option<&Record>, split: Split) -> Self {
        record.map_or(Self::Absent, |record| {
            let string = record.encoded_string().filter(|_| split == Split::Values);
            Self::There(Bytes::copy_from_slice(string.unwrap_or_default()))
        })
    }

    /// Bytes of its string.
    fn length(&self) -> usize {
        if let Self::There(string) = self { string.len() } else { 0 }
    }
}

/// A part that is still to come, of a key of this mapping.
pub(in crate::dispatch) struct Coming {
    pub(in crate::dispatch) mapping: MappingId,
    pub(in crate::dispatch) part: Pin<Box<dyn Future<Output = Result<Part, StoreError>>>>,
}

/// One key of the command, when everything has been begun.
pub(in crate::dispatch) enum Begun {
    Now(Part),
    Later(Coming),
}

impl Call<'_> {
    /// A command over several keys.
    pub(in crate::dispatch) fn split(&mut self, keys: &SplitKeys) -> Flow {
        if !keys.spec.accepts(self.request.len()) {
            return self.wrong_arity(keys.spec);
        }
        self.session.tally.add(RouteLabel::Split, Outcome::Ok, 1);
        if let Some(refusal) = self.undeletable(keys) {
            return self.refuse(&refusal);
        }
        let mut room = Room::of(self.services, self.session);
        let Some(begun) = self.begin_all(keys, &mut room) else { return self.error(errors::limits::REPLY_TOO_LONG) };
        let joining = Joining {
            owned: self.services.owned.clone(),
            split: keys.split,
            proto: self.session.proto(),
            room,
            theirs: self.ask_upstream(keys),
            removed: keys.removed,
        };
        let waits = joining.theirs.is_some() || begun.iter().any(|begun| matches!(begun, Begun::Later(_)));
        let reply = Box::pin(joining.joined(begun));
        if waits { self.measured_several(keys, reply) } else { Flow::Later(reply) }
    }

    /// The refusal of a DEL that names a definition: nothing of it is done.
    fn undeletable(&self, keys: &SplitKeys) -> Option<String> {
        let mut removed = keys.keys.iter().filter(|_| keys.split == Split::Remove);
        removed.find_map(|key| match key.holder {
            Holder::Definitions(mapping) => Some(self.services.router.unanswered(self.request, key.at, mapping)),
            _ => None,
        })
    }

    /// Begins what each key needs; `None` when there is no room for what is known at once. All keys are looked up in
    /// one snapshot of the definitions (C6).
    fn begin_all(&mut self, keys: &SplitKeys, room: &mut Room) -> Option<Vec<Begun>> {
        let (snapshot, mut begun) = (self.services.owned.definitions.snapshot(), Vec::with_capacity(keys.keys.len()));
        let mut asker = None;
        let falls_back = self.services.router.modes.falls_back_somewhere() && keys.split != Split::Remove;
        for key in &keys.keys {
            let text = self.request.arg(key.at);
            let one = match key.holder {
                _ if falls_back && self.services.router.falls_back(text).is_some() => {
                    self.look_up_on_both_sides(&snapshot, key, keys.split)
                }
                Holder::Upstream => Begun::Now(Part::Upstream),
                Holder::Definitions(mapping) => Begun::Now(self.defined(&snapshot, mapping, text, keys.split)),
                Holder::Cache(mapping) if keys.split == Split::Remove => self.remove(mapping, text),
                Holder::Cache(mapping) => self.look_up(mapping, text, keys.split, &mut asker),
            };
            if let Begun::Now(part) = &one
                && !room.takes(part.length(), size_of::<Begun>())
            {
                return None;
            }
            begun.push(one);
        }
        Some(begun)
    }

    pub(in crate::dispatch) fn defined(
        &mut self,
        snapshot: &Snapshot,
        mapping: MappingId,
        key: &[u8],
        split: Split,
    ) -> Part {
        let record = snapshot.get(mapping, key);
        if let Some(reader) = self.session.reader() {
            self.services.owned.definitions.reads(reader, mapping, key, snapshot);
        }
        self.session.tally.add(RouteLabel::Definition, outcome(record.is_some()), 1);
        Part::of(record, split)
    }

    pub(in crate::dispatch) fn look_up(
        &mut self,
        mapping: MappingId,
        key: &[u8],
        split: Split,
        asker: &mut Option<Asker>,
    ) -> Begun {
        let (services, now) = (self.services, self.session.now);
        let owned = &services.owned;
        let Some(entry) = owned.cache.get(mapping, key, now) else {
            self.count_miss(mapping, key);
            let asker = asker.get_or_insert_with(|| self.session.asker());
            let loading = owned.cache.load(mapping, &Bytes::copy_from_slice(key), asker);
            let (reader, owned, key) = (self.session.reader().cloned(), owned.clone(), Bytes::copy_from_slice(key));
            let part = Box::pin(async move {
                let entry = loading.await?;
                if let Some(reader) = reader {
                    owned.cache.reads(&reader, &key, &entry);
                }
                Ok(Part::of(entry.record.as_ref(), split))
            });
            return Begun::Later(Coming { mapping, part });
        };
        self.session.tally.add(RouteLabel::Cache, outcome(entry.record.is_some()), 1);
        let mut front = services.front.borrow_mut();
        front.count(mapping, entry.record.is_some());
        front.saw(key, entry.weight(), now);
        if split != Split::Exists {
            owned.cache.renew(key, &entry, now);
        }
        if let Some(reader) = self.session.reader() {
            owned.cache.reads(reader, key, &entry);
        }
        Begun::Now(Part::of(entry.record.as_ref(), split))
    }

    /// DEL on a cached key deletes its rows where the mapping says so. Elsewhere it is forgotten: it was there, if a
    /// record was in memory.
    fn remove(&self, mapping: MappingId, key: &[u8]) -> Begun {
        let owned = &self.services.owned;
        let was_there = |was_there: bool| if was_there { Part::There(Bytes::new()) } else { Part::Absent };
        if owned.mappings.list[mapping.index()].config.delete != DeleteMode::Row {
            owned.metrics.invalidated("command");
            return Begun::Now(was_there(owned.forget(key, self.session.peer.id)));
        }
        let by = self.session.writer("DEL");
        let deleting = owned.cache.write(mapping, &Bytes::copy_from_slice(key), &Write::delete(), by);
        let part = Box::pin(async move { deleting.await.map(|written| was_there(written.old.is_some())) });
        Begun::Later(Coming { mapping, part })
    }

    /// Sends the upstream's keys, if there are any, as one command, or to each node of a cluster its own.
    fn ask_upstream(&mut self, keys: &SplitKeys) -> Option<Theirs> {
        let theirs = keys.keys.iter().filter(|key| key.holder == Holder::Upstream).map(|key| self.request.arg(key.at));
        let words: Vec<&[u8]> = std::iter::once(self.request.arg(0)).chain(theirs).collect();
        let resendable = keys.spec.flags.readonly;
        if words.len() > 1 && self.services.upstream.is_cluster() {
            let joint = if keys.split == Split::Values { Joint::Listed } else { Joint::Sum };
            let lane = self.services.lane(self.session);
            return Some(Theirs::Cluster(BySlot::send(lane, &words, 1, joint, resendable)));
        }
        (words.len() > 1).then(|| Theirs::Server(self.services.ask(self.session, &words, resendable)))
    }
}

/// A command whose parts are on their way.
struct Joining {
    owned: Arc<Owned>,
    split: Split,
    proto: Proto,
    room: Room,
    theirs: Option<Theirs>,
    removed: i64,
}

/// The upstream's part.
enum Theirs {
    Server(Ticket),
    Cluster(BySlot),
}

impl Theirs {
    async fn parts(self) -> Result<(Pieces, Bytes), Broken> {
        match self {
            Self::Server(ticket) => ticket.parts().await,
            Self::Cluster(parts) => parts.joined().await,
        }
    }
}

impl Joining {
    /// The reply.
    async fn joined(mut self, begun: Vec<Begun>) -> Result<Pieces, Broken> {
        let parts = match self.gathered(begun).await {
            Ok(parts) => parts,
            Err(text) => return Ok(error_reply(&text)),
        };
        // The upstream's reply is counted where it waits.
        let (upstream, pushes) = match self.theirs {
            Some(theirs) => theirs.parts().await.map(|(reply, pushes)| (Some(reply), pushes))?,
            None => (None, Bytes::new()),
        };
        let mut reply = match self.split {
            Split::Values => join_values(parts, upstream, self.proto),
            Split::Remove | Split::Exists | Split::Touch => join_counts(&parts, upstream, self.removed),
        };
        // What has changed since one part was read is told behind the whole.
        reply.append(pushes);
        Ok(reply)
    }

    /// Every key's part at its position, or the error that is the reply.
    async fn gathered(&mut self, begun: Vec<Begun>) -> Result<Vec<Part>, String> {
        let (mut parts, mut coming) = (vec![Part::Upstream; begun.len()], FuturesUnordered::new());
        for (at, one) in begun.into_iter().enumerate() {
            match one {
                Begun::Now(part) => parts[at] = part,
                Begun::Later(Coming { mapping, part }) => coming.push(async move { (at, mapping, part.await) }),
            }
        }
        // Each counts when it is there, wherever its place is.
        while let Some((at, mapping, part)) = coming.next().await {
            let part = part.map_err(|error| self.error(mapping, &error))?;
            if !self.room.takes(part.length(), size_of::<Begun>()) {
                return Err(errors::limits::REPLY_TOO_LONG.into());
            }
            parts[at] = part;
        }
        Ok(parts)
    }

    fn error(&self, mapping: MappingId, error: &StoreError) -> String {
        match self.split {
            Split::Remove => self.owned.write_error(mapping, error),
            Split::Exists | Split::Touch | Split::Values => self.owned.load_error(mapping, error),
        }
    }
}

/// The sum of what both sides counted; the upstream's error if it has one.
fn join_counts(parts: &[Part], upstream: Option<Pieces>, removed: i64) -> Pieces {
    let counted = match upstream.map(Pieces::whole) {
        None => 0,
        Some(reply) => match decode::integer(&reply) {
            Some(counted) => counted,
            None => return reply.into(),
        },
    };
    let ours = parts.iter().filter(|part| matches!(part, Part::There(_))).count() as i64;
    let mut out = BytesMut::new();
    encode::int(&mut out, counted + ours + removed);
    out.into()
}

/// Each key's value at its position; the upstream's error if it has one.
fn join_values(parts: Vec<Part>, upstream: Option<Pieces>, proto: Proto) -> Pieces {
    let mut elements = match upstream.map_or_else(|| Ok(Elements::none()), Elements::of) {
        Ok(elements) => elements,
        Err(reply) => return reply,
    };
    let mut out = Pieces::default();
    encode::array(out.tail(), parts.len());
    for part in parts {
        match part {
            Part::Upstream => elements.pass(&mut out),
            // Keys of another type are null to MGET, as in Redis.
            Part::There(encoded) if !encoded.is_empty() => out.append(encoded),
            Part::There(_) | Part::Absent => encode::null(out.tail(), proto),
        }
        out.settle();
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Part, join_counts, join_values};
    use crate::resp::Proto;

    fn there(encoded: &'static [u8]) -> Part {
        Part::There(Bytes::from_static(encoded))
    }

    fn upstream(reply: &'static [u8]) -> Option<crate::resp::pieces::Pieces> {
        Some(Bytes::from_static(reply).into())
    }

    #[test]
    fn values_stand_in_the_places_of_their_keys() {
        let parts = || vec![Part::Upstream, there(b"$1\r\nb\r\n"), Part::Absent, there(b""), Part::Upstream];
        let joined = |reply, proto| join_values(parts(), upstream(reply), proto).whole();
        let theirs = b"*2\r\n$1\r\na\r\n$-1\r\n";
        assert_eq!(&joined(theirs, Proto::Resp2)[..], b"*5\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n$-1\r\n$-1\r\n");
        assert_eq!(&joined(b"*2\r\n_\r\n_\r\n", Proto::Resp3)[..], b"*5\r\n_\r\n$1\r\nb\r\n_\r\n_\r\n_\r\n");
        assert_eq!(&joined(b"-ERR no\r\n", Proto::Resp2)[..], b"-ERR no\r\n");
        assert_eq!(&join_values(vec![there(b"$1\r\nb\r\n")], None, Proto::Resp2).whole()[..], b"*1\r\n$1\r\nb\r\n");
    }

    #[test]
    fn counts_of_both_sides_are_added_up() {
        let parts = [Part::Upstream, there(b""), Part::Absent, there(b"$1\r\nb\r\n")];
        assert_eq!(&join_counts(&parts, upstream(b":3\r\n"), 1).whole()[..], b":6\r\n");
        assert_eq!(&join_counts(&parts, None, 0).whole()[..], b":2\r\n");
        assert_eq!(&join_counts(&parts, upstream(b"-NOPERM x\r\n"), 0).whole()[..], b"-NOPERM x\r\n");
    }
}
