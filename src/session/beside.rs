//! A client whose requests go over its own connection, where the upstream is a cluster: that leads to one node, and
//! what other nodes take goes to them over their shared lanes. What the client has told the upstream of itself, where
//! that can be told again, is told on a connection of the client's own to each node that the client uses, or to each
//! master if it tracks its keys (`tracking.rs`).

use bytes::{Bytes, BytesMut};

use super::Session;
use super::tracking::Tracking;
use super::upstream_state::UpstreamState;
use crate::command::OwnedRequest;
use crate::errors;
use crate::resp::{decode, encode};
use crate::upstream::{Lane, Lost, Pinned, Upstream};

/// Most requests of which it is not known what they set, and bytes of them, that are told again.
const MOST_SAID: usize = 64;
const MOST_BYTES: usize = 16 * 1024;

/// A client's connections to other nodes than its own connection leads to.
#[derive(Debug, Default)]
pub struct Beside {
    pub(super) connections: Vec<Pinned>,
    /// The place of the one that a transaction uses; without it that uses the client's own.
    transacting: Option<usize>,
    /// To all nodes: over these where there is one, and else over the lanes that all clients share.
    lane: Option<Lane>,
    /// What the client has said that sets something unknown.
    said: Vec<OwnedRequest>,
    /// What it tracks.
    pub(super) tracking: Option<Box<Tracking>>,
}

impl Beside {
    /// The lane to all nodes, made of the client's own connection and these if there is none.
    pub(super) fn lane(&mut self, own: &Pinned, spread: impl FnOnce(&[&Pinned]) -> Lane) -> &Lane {
        self.lane.get_or_insert_with(|| spread(&[own].into_iter().chain(&self.connections).collect::<Vec<_>>()))
    }

    /// The lane is made again.
    pub(super) fn choose_again(&mut self) {
        self.lane = None;
        if self.transacting.is_none() {
            self.connections.retain(|connection| !connection.is_lost());
        }
    }

    /// Those are dropped that are not to be kept.
    pub(super) fn prune(&mut self, is_kept: impl Fn(&Pinned) -> bool) {
        self.connections.retain(is_kept);
        (self.transacting, self.lane) = (None, None);
    }

    /// Those that are lost are dropped, but for that of a transaction.
    pub(super) fn forget_lost(&mut self) {
        let transacting = self.transacting.take().map(|at| self.connections.swap_remove(at));
        self.prune(|connection| !connection.is_lost());
        if let Some(connection) = transacting {
            self.transacts_over(connection);
        }
    }

    /// The one that a transaction uses.
    pub(super) fn transacting(&self) -> Option<&Pinned> {
        self.connections.get(self.transacting?)
    }

    pub(super) fn transacting_mut(&mut self) -> Option<&mut Pinned> {
        self.connections.get_mut(self.transacting?)
    }

    pub(super) fn transacts_over(&mut self, connection: Pinned) {
        self.add(connection);
        self.transacting = Some(self.connections.len() - 1);
    }

    /// A transaction uses the one that `leads` there, if there is one.
    pub(super) fn transacts_where(&mut self, leads: impl Fn(&Pinned) -> bool) -> bool {
        let at = self.connections.iter().position(|connection| !connection.is_lost() && leads(connection));
        self.transacting = at.or(self.transacting);
        at.is_some()
    }

    /// The transaction is over.
    pub fn ends_transaction(&mut self) {
        self.transacting = None;
    }

    /// One connection more.
    pub fn add(&mut self, connection: Pinned) {
        self.connections.push(connection);
        self.lane = None;
    }

    /// Whether one of them is open and `leads` there.
    #[must_use]
    pub fn find(&self, leads: impl Fn(&Pinned) -> bool) -> Option<&Pinned> {
        self.connections.iter().find(|connection| !connection.is_lost() && leads(connection))
    }

    /// All of them end: what was said on the client's own one is said again where it is needed.
    pub fn close(&mut self) {
        self.connections.clear();
        (self.transacting, self.lane) = (None, None);
    }

    /// True when there is room to remember one more request that sets something unknown.
    #[must_use]
    pub fn may_say(&self, request: &OwnedRequest) -> bool {
        let bytes: usize = self.said.iter().map(|said| said.bytes().len()).sum();
        self.said.len() < MOST_SAID && bytes + request.bytes().len() <= MOST_BYTES
    }

    /// The client has set something unknown.
    pub fn has_said(&mut self, request: &OwnedRequest) {
        self.said.retain(|said| said.bytes() != request.bytes());
        self.said.push(request.clone());
    }

    /// True when a further connection must be told something for a client of this state.
    #[must_use]
    pub fn has_to_say(&self, state: &UpstreamState) -> bool {
        self.tracking.is_some() || state.no_evict || state.no_touch || state.import || !self.said.is_empty()
    }

    fn to_say(&self, state: &UpstreamState) -> Vec<Bytes> {
        let flags = [(state.no_evict, "NO-EVICT"), (state.no_touch, "NO-TOUCH"), (state.import, "IMPORT-SOURCE")];
        let words = flags.into_iter().filter(|(is_set, _)| *is_set);
        let words = words.map(|(_, name)| encode::request_of(&["CLIENT", name, "ON"]));
        words.chain(self.said.iter().map(OwnedRequest::bytes)).collect()
    }
}

impl Session {
    /// True when a further connection of this client must be told something.
    #[must_use]
    pub fn has_to_say(&self) -> bool {
        self.way.beside().is_some_and(|beside| beside.has_to_say(self.way.state()))
    }

    /// Tells a further connection what the client has told its own one; no other client is given it afterwards.
    ///
    /// # Errors
    /// What the upstream has answered, or that the connection is lost.
    pub async fn tell(&self, upstream: &Upstream, pinned: &mut Pinned) -> Result<(), String> {
        let said = self.way.beside().map(|beside| beside.to_say(self.way.state())).unwrap_or_default();
        for request in said {
            pinned.moved();
            let told = pinned.call(&request, &mut BytesMut::new()).await;
            let told = told.map_err(|Lost| errors::upstream::LOST_UNSENT.to_owned())?;
            if let Some(error) = decode::error(&told) {
                return Err(error);
            }
        }
        self.track_over(upstream, pinned).await
    }
}
