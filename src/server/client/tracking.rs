//! CLIENT TRACKING that is begun again when a connection was lost. It begins at the client's own connection; in a
//! cluster, where its keys are on several nodes, there is then one to each master, and again whenever the masters are
//! others. Whatever may have been missed is made good by telling the client, or its target, to forget all keys
//! (`session/tracking.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::End;
use super::heard::Heard;
use super::{Client, Next};
use crate::clients::Peer;
use crate::command::{OwnedRequest, Request};
use crate::dispatch::Exclusive;
use crate::errors;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, reply};
use crate::route::{Route, Transaction};
use crate::session::{Beside, Redirect, with_ear};
use crate::upstream::{Batch, Expect, Inbox, Pinned, To};

/// A master that cannot be reached in this time is left for later: what is asked of it meanwhile waits by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// The pause before that.
const AGAIN: Duration = Duration::from_millis(500);

/// The word that ends what CLIENT CACHING says to a connection.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// CLIENT TRACKING. The client has a connection of its own.
    pub(super) async fn track(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let target = match self.named(request) {
            Ok(target) => target,
            Err(text) => {
                self.error(text);
                return Ok(());
            }
        };
        let Some(own) = self.session.way.connection() else { return Ok(()) };
        let ear = match &target {
            None => None,
            Some(_) => match self.connection.meanwhile(self.session.ear(&self.services.upstream, own)).await? {
                Ok(ear) => Some(ear),
                Err(text) => {
                    self.error(&text);
                    return Ok(());
                }
            },
        };
        let id = ear.as_ref().and_then(|ear| ear.id);
        let Some(said) = self.call_own(&with_ear(request, id)).await else { return Ok(()) };
        self.connection.replies.tail().put_slice(&said);
        if &said[..] == b"+OK\r\n" {
            let has_tracked = self.session.way.tracking().is_some();
            self.session.accept(&request.view(), &self.services.owned.tracking, &self.services.clients);
            self.begin_tracking(request, target.zip(ear));
            if self.session.way.tracking().is_some() {
                self.settle_way();
                self.reach_masters().await?;
                // Those beside its own connection have ended.
                if has_tracked && self.services.upstream.is_cluster() {
                    let forgotten = self.session.forget_all(&self.services.upstream);
                    self.connection.replies.loud().put_slice(&forgotten);
                }
            }
        }
        Ok(())
    }

    fn begin_tracking(&mut self, request: &OwnedRequest, to: Option<(Arc<Peer>, Pinned)>) {
        if !request.view().is(2, "ON") {
            return self.session.way.ends_tracking();
        }
        let (target, ear) = to.unzip();
        let redirect = target.as_ref().zip(ear.as_ref().and_then(|ear| ear.id));
        let redirect = redirect.map(|(target, connection)| Redirect { client: target.id, connection });
        if let Some(state) = self.session.way.state_mut() {
            state.redirect = redirect;
        }
        if let Some(own) = self.session.way.connection_mut() {
            own.moved();
            own.ear = None;
            if let (Some(target), Some(ear)) = (&target, ear) {
                own.hear_over(ear, target.id);
            }
        }
        self.session.way.tracks(request, target, self.services.upstream.moves());
        self.session.way.beside_mut().into_iter().for_each(Beside::close);
    }

    /// The client that a request names by our id, if it names one. What is no number is for the upstream to refuse.
    fn named(&self, request: &OwnedRequest) -> Result<Option<Arc<Peer>>, &'static str> {
        let view = request.view();
        let Some(at) = (4..view.len()).find(|at| view.is(at - 1, "REDIRECT")) else { return Ok(None) };
        let Some(id) = parse_i64(view.arg(at)) else { return Ok(None) };
        let peer = u64::try_from(id).ok().and_then(|id| self.services.clients.find(id));
        peer.map(Some).ok_or(errors::as_redis::NO_REDIRECT_TARGET)
    }

    /// CLIENT CACHING is about the next request, which may go to any node: the client's own connection says whether it
    /// may be said, and forgets it.
    pub(super) async fn cache_next(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let mut pushes = BytesMut::new();
        let Some(own) = self.session.way.connection() else { return Ok(()) };
        let both = [&request.bytes()[..], PING].concat().into();
        let Ok(said) = own.ask(both, Expect::Replies(2), &mut pushes).await else {
            self.session.lose_connection();
            self.error(errors::upstream::LOST_STATE);
            return Ok(());
        };
        let said = reply::each(&said).into_iter().next().unwrap_or_default();
        if let Some(tracking) = self.session.way.tracking_mut().filter(|_| &said[..] == b"+OK\r\n") {
            tracking.caching = Some(request.bytes());
        }
        if &said[..] == b"+OK\r\n" {
            self.session.accept(&request.view(), &self.services.owned.tracking, &self.services.clients);
        }
        self.connection.replies.loud().put_slice(&pushes);
        self.connection.replies.tail().put_slice(&said);
        Ok(())
    }

    /// The request of `length` bytes in front of which CLIENT CACHING is to be said, taken out of the buffer; `None`
    /// if it is answered as any other.
    pub(super) fn take_opted(&mut self, length: usize, route: &Route) -> Option<Next> {
        self.send_batch();
        let request = Request::new(&self.connection.incoming[..length], self.scanner.spans());
        if request.is(0, "CLIENT") || matches!(route, Route::Transaction(Transaction::Multi, _)) {
            return None;
        }
        if matches!(route, Route::PassThrough(_)) && matches!(self.session.to, To::Slot(_)) {
            if self.session.is_shown {
                self.services.show(&self.session, &request);
            }
            self.services.note_passed(&self.session, &request, route);
            let request = OwnedRequest::copy(&request);
            self.connection.incoming.advance(length);
            return Some(Next::Exclusive(Exclusive::Opted(request)));
        }
        self.forget_caching(!matches!(route, Route::PassThrough(_)) && !route.is_owned_whole());
        None
    }

    /// A request to which CLIENT CACHING applies that is no part of a transaction. It is over with that, but the
    /// upstream knows it only of what it sees.
    pub(super) fn take_said(&mut self, length: usize, route: Route) -> Next {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        let (is_multi, goes_on) = (request.is(0, "MULTI"), matches!(route, Route::Held(_)) || request.is(0, "CLIENT"));
        let is_unseen = !matches!(route, Route::PassThrough(_));
        let next = self.take_routed(length, route);
        if !(goes_on || is_multi && self.begins(&next)) {
            self.ends_caching(is_unseen);
        }
        next
    }

    /// A request of a client that watches, which is no part of that. Behind a cluster CLIENT CACHING is not said to its
    /// node.
    pub(super) fn take_beside(&mut self, length: usize, route: Route) -> Next {
        if !self.session.has_said_caching() {
            return self.take_routed(length, route);
        }
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        if !matches!(route, Route::Held(_)) && !request.is(0, "CLIENT") {
            self.forget_caching(!route.is_owned_whole());
        }
        self.take_said(length, route)
    }

    /// A command of a transaction has been taken: only inside a MULTI what CLIENT CACHING said goes on behind it.
    pub(super) fn taken_within(&mut self, next: Next) -> Next {
        if !matches!(next, Next::Exclusive(_)) && !self.is_queueing() {
            self.ends_caching(true);
        }
        next
    }

    /// True if a MULTI that was taken has begun a transaction, or waits for what that needs; else it was refused.
    pub(super) fn begins(&self, next: &Next) -> bool {
        self.is_queueing() || matches!(next, Next::ReadSoon | Next::Exclusive(Exclusive::Transaction(..)))
    }

    /// What CLIENT CACHING said is over, here and at the upstream.
    pub(super) fn ends_caching(&mut self, is_unseen: bool) {
        self.forget_caching(false);
        let is_deaf = self.services.upstream.is_cluster() || self.session.way.state().is_raw();
        if self.session.forget_said() && is_unseen && !is_deaf {
            self.send_batch();
            let ticket = self.session.submit(&self.services.upstream, Batch::one(Bytes::from_static(PING), true));
            self.connection.replies.silent(ticket, PING.len());
        }
    }

    /// What was said is over; perhaps something was read, and nothing will be heard of it.
    pub(super) fn forget_caching(&mut self, has_read: bool) {
        if let Some(tracking) = self.session.way.tracking_mut().filter(|tracking| tracking.caching.is_some()) {
            (tracking.caching, tracking.is_unheard) = (None, tracking.is_unheard || has_read);
        }
    }

    /// A request to which CLIENT CACHING applies, over the connection to its node.
    pub(super) async fn opted(&mut self, request: &OwnedRequest) -> Result<(), End> {
        // It is over with this one, also for the owned keys that are read next.
        self.session.forget_said();
        let (to, services) = (self.session.to, self.services.clone());
        let leads = |own: &Pinned| services.upstream.leads_to(own, to);
        if self.session.way.own_to(leads).is_none() {
            let Some(pinned) = self.borrow(Duration::ZERO).await? else { return Ok(()) };
            self.session.way.goes_beside(pinned);
        }
        let caching = self.session.way.tracking_mut().and_then(|tracking| tracking.caching.take()).unwrap_or_default();
        let Some(own) = self.session.way.own_to(leads) else { return Ok(()) };
        let mut pushes = BytesMut::new();
        let both = Bytes::from([&caching[..], &request.bytes()].concat());
        let asked = own.ask(both, Expect::Replies(2), &mut pushes);
        let Ok(said) = self.connection.meanwhile(asked).await? else {
            self.give_up(leads);
            self.error(errors::upstream::LOST_WAITING);
            return Ok(());
        };
        self.connection.replies.loud().put_slice(&pushes);
        let said = reply::each(&said).into_iter().nth(1).unwrap_or_default();
        let onward = self.session.way.own_to(leads).and_then(|own| services.upstream.onward(own, &said));
        if let Some(onward) = onward {
            // Where it goes from there nothing is said before it.
            services.upstream.learn(&onward);
            let batch = Batch::one(request.bytes(), false).to(to);
            let ticket = self.session.submit(&services.upstream, batch);
            self.connection.replies.batch(ticket, request.bytes().len());
            self.session.note_unheard(&self.services.upstream);
            return Ok(());
        }
        self.connection.replies.tail().put_slice(&said);
        Ok(())
    }

    /// A connection that has not answered is not used any more.
    fn give_up(&mut self, leads: impl Fn(&Pinned) -> bool) {
        if let Some(own) = self.session.way.own_to(leads) {
            own.give_up();
        }
    }

    /// True for a tracking client that may have missed something, or has not got the connections that it needs.
    #[inline]
    pub(super) fn must_track_again(&self) -> bool {
        self.session.way.tracking().is_some()
            && (self.connection.replies.unsolicited.is_called()
                || self.session.is_outdated(&self.services.upstream)
                || self.may_have_missed())
    }

    fn may_have_missed(&self) -> bool {
        let moves = self.services.upstream.moves();
        self.session.way.tracking().is_some_and(|tracking| tracking.is_unheard || tracking.moves != moves)
            || self.session.way.connections().any(Pinned::is_lost)
    }

    /// Tells whoever hears of the client's keys to forget them all, and begins again where that is necessary.
    pub(super) async fn track_again(&mut self) -> Result<(), End> {
        self.connection.answered().await?;
        let services = self.services.clone();
        let upstream = &services.upstream;
        if !upstream.is_cluster() && !self.session.may_begin_again() {
            return Err(End::Broken);
        }
        // One server has been replaced by another.
        let is_replaced = !upstream.is_cluster() && self.session.is_outdated(upstream);
        let masters = upstream.masters();
        let is_right = |own: &Pinned| !is_replaced && masters.iter().any(|to| upstream.leads_to(own, *to));
        if self.may_have_missed() || !self.session.way.connections().all(is_right) {
            let forgotten = self.session.forget_all(upstream);
            self.connection.replies.loud().put_slice(&forgotten);
        }
        self.session.catch_up(upstream);
        self.session.way.drop_ears();
        if self.transaction.is_some() || self.session.way.state().is_raw() {
            // What its connection has begun ends with that. The others are for later.
            let is_lost = self.session.way.transacting().is_none_or(Pinned::is_lost);
            self.session.way.forget_lost();
            self.follow_inbox();
            return if is_lost { Err(End::Broken) } else { Ok(()) };
        }
        self.session.way.prune(is_right);
        if self.session.way.connection().is_none_or(|own| own.is_lost() || !is_right(own)) {
            self.session.to = To::Home;
            let Some(own) = self.pinned_soon(To::Home, upstream.patience()).await? else {
                return Err(End::Broken);
            };
            self.session.way.owns(own);
        }
        self.reach_masters().await
    }

    /// Gets a connection to each master to which there is none.
    async fn reach_masters(&mut self) -> Result<(), End> {
        for to in self.services.upstream.masters() {
            let services = self.services.clone();
            if self.session.way.own_to(|own| services.upstream.leads_to(own, to)).is_some() {
                continue;
            }
            if let Some(pinned) = self.pinned_soon(to, PATIENCE).await? {
                self.session.way.goes_beside(pinned);
            }
        }
        self.session.way.follow_ear();
        self.follow_way();
        Ok(())
    }

    /// A connection that hears of the client's keys, if there is one in this time.
    async fn pinned_soon(&mut self, to: To, patience: Duration) -> Result<Option<Pinned>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let session = &self.session;
        let pinned = tokio::time::timeout(patience, async {
            let mut pinned = services.upstream.pin_at(to, &group, &account).await.ok()?;
            session.tell(&services.upstream, &mut pinned).await.ok()?;
            Some(pinned)
        });
        Ok(self.connection.meanwhile(pinned).await?.ok().flatten())
    }

    /// Hears over all of the client's connections from now on; false for a client that tracks nothing here.
    pub(super) fn hear(&mut self) -> bool {
        let unsolicited = &mut self.connection.replies.unsolicited;
        let Some(tracking) = self.session.way.tracking() else {
            unsolicited.heard = None;
            return false;
        };
        let upstream = &self.services.upstream;
        let leads_to = |to| self.session.way.own_to(|own| upstream.leads_to(own, to)).is_some();
        let has_all = upstream.masters().into_iter().all(leads_to);
        let outdates = upstream.outdates(self.session.edition(), tracking.moves);
        let call = async move {
            match has_all {
                true => outdates.await,
                false => drop(tokio::time::timeout(AGAIN, outdates).await),
            }
        };
        let inbox = |pinned: &Pinned| pinned.inbox.clone();
        let inboxes: Vec<Inbox> = self.session.way.connections().map(inbox).collect();
        let ears = self.session.way.connections().filter_map(|own| own.ear.as_deref()).map(inbox).collect();
        let is_mute = self.session.proto() == Proto::Resp2;
        let heard = Heard::over(inboxes, call).passed_on(ears, tracking.target.clone(), is_mute);
        unsolicited.heard = Some(Box::new(heard));
        true
    }
}

/// True of CLIENT TRACKING that lets another client be told.
pub(super) fn names_target(request: &Request<'_>) -> bool {
    (3..request.len()).any(|at| request.is(at, "REDIRECT"))
}
