//! CLIENT TRACKING that can be begun again. Where the upstream is a cluster, each node tells of its own keys, to the
//! connection that has read them there, or to the one beside that (REDIRECT): so the client has a connection of its own
//! to each master. Whatever it is answered over another one, and whatever a lost connection might have told, is made
//! good by telling it to forget all keys.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Session;
use super::way::Way;
use crate::clients::Peer;
use crate::command::OwnedRequest;
use crate::errors;
use crate::resp::{Proto, decode, encode, invalidation};
use crate::upstream::{Group, Lost, Pinned, Unheard, Upstream};

/// What a client tracks.
#[derive(Debug, Default)]
pub struct Tracking {
    /// The requests by which it began, in order: prefixes are added.
    said: Vec<OwnedRequest>,
    /// Who is told instead of the client.
    pub target: Option<Arc<Peer>>,
    /// CLIENT CACHING, which is about the next request.
    pub caching: Option<Bytes>,
    /// It was answered something about which nothing will be heard.
    pub is_unheard: bool,
    /// How often slots had moved when it began, or was last told to forget all keys.
    pub moves: u64,
}

impl Tracking {
    /// One more request of the client, whose invalidations go there.
    pub fn add(&mut self, request: &OwnedRequest, target: Option<Arc<Peer>>) {
        self.said.retain(|said| said.bytes() != request.bytes());
        self.said.push(request.clone());
        self.target = target;
    }
}

/// A request of CLIENT TRACKING for a connection whose invalidations go to the one with this id.
#[must_use]
pub fn with_ear(request: &OwnedRequest, ear: Option<i64>) -> Bytes {
    let view = request.view();
    let Some(ear) = ear.map(|ear| ear.to_string()) else { return request.bytes() };
    let is_id = |at: usize| at > 3 && view.is(at - 1, "REDIRECT");
    let words: Vec<&[u8]> =
        view.args_from(0).enumerate().map(|(at, word)| if is_id(at) { ear.as_bytes() } else { word }).collect();
    encode::request_of(&words)
}

/// The same without the name of a client that is told no more.
fn without_target(request: &OwnedRequest) -> Bytes {
    let view = request.view();
    let is_of_target = |at: usize| at > 2 && (view.is(at, "REDIRECT") || at > 3 && view.is(at - 1, "REDIRECT"));
    let words: Vec<&[u8]> =
        view.args_from(0).enumerate().filter(|(at, _)| !is_of_target(*at)).map(|(_, word)| word).collect();
    encode::request_of(&words)
}

/// Tells whoever hears of the keys that any may have changed; what the client itself is sent.
fn told(target: Option<&Peer>, proto: Proto) -> Bytes {
    match (target, proto) {
        (Some(peer), _) => peer.invalidate(None),
        (None, Proto::Resp3) => return Bytes::from_static(invalidation::PUSH_ALL),
        (None, Proto::Resp2) => {}
    }
    Bytes::new()
}

impl Session {
    /// Tells whoever hears of the client's keys that any may have changed; what the client itself is sent.
    #[must_use]
    pub fn forget_all(&mut self, upstream: &Upstream) -> Bytes {
        let proto = self.proto();
        let Some(tracking) = self.way.tracking_mut() else { return Bytes::new() };
        (tracking.is_unheard, tracking.moves) = (false, upstream.moves());
        told(tracking.target.as_deref(), proto)
    }

    /// Nothing will be heard about something that the client was answered: behind a cluster, over a connection that is
    /// not its own, or that tells of it no more. One server goes on telling.
    pub fn note_unheard(&mut self, upstream: &Upstream) {
        if let Some(tracking) = self.way.tracking_mut() {
            tracking.is_unheard |= upstream.is_cluster();
        }
    }

    /// True where all that one server keeps for the client's connection can be said again over another one.
    #[must_use]
    pub fn may_begin_again(&self) -> bool {
        let is_subscribed = self.way.inbox().is_some_and(|inbox| inbox.subscribed() != [0; 3]);
        self.way.state().is_said_again() && !is_subscribed
    }

    /// What is done where the client is answered by a node that does not tell it of changes.
    pub(super) fn unheard(&self) -> Option<Unheard> {
        let (target, proto) = (self.way.tracking()?.target.clone(), self.proto());
        Some(Unheard::new(move || told(target.as_deref(), proto)))
    }

    /// A connection that hears, beside this one, what the server of both tells of the client's keys.
    ///
    /// # Errors
    /// What the client is told if there is none.
    pub async fn ear(&self, upstream: &Upstream, pinned: &Pinned) -> Result<Pinned, String> {
        let group = Group { proto: Proto::Resp3, ..self.group.clone() };
        let mut ear = upstream.pin_with(pinned, &group, &self.account).await.map_err(|error| error.to_string())?;
        ear.moved();
        if ear.id.is_none() {
            return Err(errors::connection::REDIRECT_TARGET_HAS_NONE.to_owned());
        }
        Ok(ear)
    }

    /// Begins to hear of the keys that are read over this connection.
    pub(super) async fn track_over(&self, upstream: &Upstream, pinned: &mut Pinned) -> Result<(), String> {
        let Some(tracking) = self.way.tracking() else { return Ok(()) };
        // Nobody is told any more.
        if tracking.target.as_ref().is_some_and(|target| target.is_gone()) {
            return Ok(());
        }
        pinned.moved();
        if let Some(target) = &tracking.target {
            pinned.hear_over(self.ear(upstream, pinned).await?, target.id);
        }
        let (ear, mut pushes) = (pinned.ear.as_ref().and_then(|ear| ear.id), BytesMut::new());
        for request in &tracking.said {
            let words = if ear.is_some() { with_ear(request, ear) } else { without_target(request) };
            let said = pinned.call(&words, &mut pushes).await;
            let said = said.map_err(|Lost| errors::upstream::LOST_UNSENT.to_owned())?;
            if let Some(error) = decode::error(&said) {
                return Err(error);
            }
        }
        pinned.inbox.heard(pushes.freeze());
        Ok(())
    }
}

impl Way {
    /// What the client tracks, if it does and that can be begun again over another connection.
    #[inline]
    #[must_use]
    pub fn tracking(&self) -> Option<&Tracking> {
        self.own()?.beside.tracking.as_deref()
    }

    /// The same, to be changed.
    pub fn tracking_mut(&mut self) -> Option<&mut Tracking> {
        self.own_mut()?.beside.tracking.as_deref_mut()
    }

    /// The client tracks its keys from now on, this way too.
    pub fn tracks(&mut self, request: &OwnedRequest, target: Option<Arc<Peer>>, moves: u64) {
        if let Some(own) = self.own_mut() {
            let begun = || Box::new(Tracking { moves, ..Tracking::default() });
            own.beside.tracking.get_or_insert_with(begun).add(request, target);
        }
    }

    /// It does not any more.
    pub fn ends_tracking(&mut self) {
        if let Some(own) = self.own_mut() {
            own.beside.tracking = None;
            own.connection.ear = None;
            own.beside.close();
        }
    }

    /// True when what the client has said about its next request is still to be passed on.
    #[inline]
    #[must_use]
    pub fn is_caching(&self) -> bool {
        self.tracking().is_some_and(|tracking| tracking.caching.is_some())
    }

    /// The client's connections: its own one, and those beside it.
    pub fn connections(&self) -> impl Iterator<Item = &Pinned> {
        self.own().into_iter().flat_map(|own| std::iter::once(&own.connection).chain(&own.beside.connections))
    }

    /// Drops the connections that are lost, or lead to no master. One that is left becomes the client's own one, if
    /// that is dropped.
    pub fn prune(&mut self, is_master: impl Fn(&Pinned) -> bool) {
        let Some(own) = self.own_mut() else { return };
        let is_kept = |connection: &Pinned| !connection.is_lost() && is_master(connection);
        own.beside.prune(is_kept);
        if !is_kept(&own.connection)
            && let Some(next) = own.beside.connections.pop()
        {
            own.connection = next;
        }
    }

    /// Who was to be told is gone: the nodes see that nobody listens any more.
    pub fn drop_ears(&mut self) {
        let Some(own) = self.own_mut() else { return };
        let is_gone = |tracking: &Tracking| tracking.target.as_ref().is_some_and(|target| target.is_gone());
        if own.beside.tracking.as_deref().is_some_and(is_gone) {
            own.connection.ear = None;
            own.beside.connections.iter_mut().for_each(|connection| connection.ear = None);
        }
    }

    /// The lost connections among those beside the client's own one are not looked at any more.
    pub fn forget_lost(&mut self) {
        if let Some(own) = self.own_mut() {
            own.beside.forget_lost();
        }
    }

    /// From now on this is the client's own connection.
    pub fn owns(&mut self, connection: Pinned) {
        if let Some(own) = self.own_mut() {
            own.connection = connection;
        }
    }

    /// The upstream's name of the connection to which the invalidations of the client's own one go.
    pub fn follow_ear(&mut self) {
        let Some(own) = self.own_mut() else { return };
        if let (Some(redirect), Some(ear)) = (&mut own.state.redirect, &own.connection.ear) {
            redirect.connection = ear.id.unwrap_or(redirect.connection);
        }
    }
}
