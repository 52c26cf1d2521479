//! A client for which the upstream keeps a state: subscriptions, CLIENT TRACKING and related commands, MONITOR. As long
//! as the state lasts, all its commands go over a dedicated connection. That is given back clean when the state has
//! ended, and closed with the client otherwise (hazard 14). `session::Way` knows which of these holds.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use super::redirect::with_our_ids;
use super::tracking::names_target;
use crate::command::{OwnedRequest, Spec};
use crate::errors;
use crate::resp::pubsub::Kind;
use crate::route::Pin;
use crate::session::Beside;
use crate::telemetry::clock::Tick;
use crate::upstream::{Batch, Expect, Lost, Pinned};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Gets a connection for the client alone; false when there is none, which the client has been answered.
    pub(super) async fn has_own(&mut self, soon: Duration) -> Result<bool, End> {
        if self.session.way.connection().is_some() {
            return Ok(true);
        }
        let lent = self.borrow(soon).await?;
        let is_lent = lent.is_some();
        lent.into_iter().for_each(|connection| self.session.way.lend(connection));
        Ok(is_lent)
    }

    /// A connection for one request of the client; `None` when there is none, which the client has been answered.
    pub(super) async fn borrow(&mut self, soon: Duration) -> Result<Option<Pinned>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let pinned = services.upstream.pin_at(self.session.to, &group, &account);
        match self.unless_left(soon, pinned).await? {
            Ok(pinned) => self.told(pinned).await,
            Err(error) => {
                self.error(&error.to_string());
                Ok(None)
            }
        }
    }

    /// SUBSCRIBE, UNSUBSCRIBE and related commands. What follows waits for the confirmations, because they decide what
    /// it means.
    pub(super) async fn subscribe(
        &mut self,
        kind: Kind,
        spec: &'static Spec,
        request: &OwnedRequest,
    ) -> Result<(), End> {
        if !self.has_own(Duration::ZERO).await? {
            return Ok(());
        }
        let expect = match request.view().len() {
            // One that must name channels is answered with one error.
            1 if spec.arity == -1 => Expect::AllOf(kind),
            arguments => Expect::Confirmations(arguments.max(2) as u32 - 1),
        };
        self.session.way.dedicate();
        self.follow_way();
        self.hear_events();
        let length = request.bytes().len();
        let batch = Batch { is_timed: true, ..Batch::expecting(request.bytes(), expect) };
        let Some(own) = self.session.way.connection() else { return Ok(()) };
        let ticket = own.lane().submit(batch);
        self.connection.replies.batch(ticket, length);
        self.connection.gathered().await
    }

    /// A command that sets, or tells, what the upstream keeps for a connection.
    pub(super) async fn state(&mut self, request: &OwnedRequest) -> Result<(), End> {
        if !self.has_own(Duration::ZERO).await? {
            return Ok(());
        }
        let (view, is_cluster) = (request.view(), self.services.upstream.is_cluster());
        match () {
            // One server tells whichever connection of it is named, and it can be named there alone.
            () if view.is(1, "TRACKING") && (is_cluster || !names_target(&view)) => return self.track(request).await,
            () if view.is(1, "CACHING") && is_cluster => return self.cache_next(request).await,
            () => {}
        }
        let (bytes, redirect) = match self.redirected(request).await? {
            Ok(rewritten) => rewritten,
            Err(text) => {
                self.error(text);
                return Ok(());
            }
        };
        let Some(reply) = self.call_own(&bytes).await else { return Ok(()) };
        if &reply[..] == b"+OK\r\n" {
            if let Some(state) = self.session.way.state_mut() {
                state.redirect = redirect.or(state.redirect);
            }
            self.session.accept(&view, &self.services.owned.tracking, &self.services.clients);
            if view.is(1, "TRACKING") {
                self.session.way.ends_tracking();
            }
            // Those beside it are told when they are needed again.
            self.session.way.beside_mut().into_iter().for_each(Beside::close);
            self.note_redirect();
            // What they may have told is missed.
            self.session.note_unheard(&self.services.upstream);
        }
        let reply = with_our_ids(&reply, self.session.way.state().redirect);
        self.connection.replies.tail().put_slice(&reply);
        Ok(())
    }

    /// The reply of the client's own connection; what was pushed before it is the client's. `None` when the connection
    /// is lost, which the client has been answered.
    pub(super) async fn call_own(&mut self, request: &[u8]) -> Option<Bytes> {
        let mut pushes = BytesMut::new();
        let asked = match self.session.way.connection() {
            Some(own) => own.call(request, &mut pushes).await,
            None => Err(Lost),
        };
        match asked {
            Ok(reply) => {
                self.connection.replies.loud().put_slice(&pushes);
                Some(reply)
            }
            Err(Lost) => {
                self.session.lose_connection();
                self.error(errors::upstream::LOST_STATE);
                None
            }
        }
    }

    /// MONITOR and SCRIPT DEBUG: from now on replies cannot be distinguished from other messages.
    pub(super) async fn listen(&mut self, pin: Pin, request: &OwnedRequest) -> Result<(), End> {
        if !self.has_own(Duration::ZERO).await? {
            return Ok(());
        }
        let begins = pin == Pin::Monitor || !request.view().is(2, "NO");
        if let Some(own) = self.session.way.connection().filter(|_| begins) {
            match pin {
                Pin::Monitor => own.will_monitor(self.services.upstream.is_cluster()),
                _ => own.will_listen(),
            }
        }
        let Some(reply) = self.call_own(&request.bytes()).await else { return Ok(()) };
        if let Some(state) = self.session.way.state_mut().filter(|_| begins && &reply[..] == b"+OK\r\n") {
            state.monitor |= pin == Pin::Monitor;
            state.debug |= pin == Pin::Debug;
        }
        if let Some(own) = self.session.way.connection().filter(|_| self.session.way.state().is_raw()) {
            own.listen();
        }
        self.connection.replies.tail().put_slice(&reply);
        Ok(())
    }

    /// Decides, after something that may have changed it, what the client's own connection is for, and gives back one
    /// that nothing needs any more.
    pub(super) fn settle_way(&mut self) {
        let unneeded = self.session.way.settle(self.transaction.is_some());
        self.follow_way();
        if let Some(connection) = unneeded {
            connection.give_back();
        }
    }

    /// Tells the replies and the other clients where the way leads now.
    pub(super) fn follow_way(&mut self) {
        self.follow_inbox();
        self.follow_events();
        self.session.follow_tracking();
        let way = &self.session.way;
        let (id, state) = (way.connection().and_then(|own| own.id), way.state());
        self.connection.replies.unsolicited.watching = match self.connection.replies.unsolicited.watching.take() {
            _ if !state.monitor => None,
            Some(watching) => Some(watching),
            None => {
                let (most, holding) = (self.services.policy.subscriber_output, self.session.peer.holding.clone());
                Some(self.services.clients.monitors.join(most, holding))
            }
        };
        let node = way.connection().and_then(Pinned::node);
        let subscribed = self.session.subscribed();
        self.session.peer.update(|peer| {
            (peer.connection, peer.node, peer.subscribed) = (id, node, subscribed);
            (peer.tracking, peer.monitor) = (state.tracking, state.monitor);
            peer.replica = state.follows_by().is_some();
            (peer.no_evict, peer.no_touch) = (state.no_evict, state.no_touch);
            (peer.broadcasts, peer.import, peer.readonly) = (state.broadcasts, state.import, state.cluster);
            peer.redirect = state.redirect.map(|redirect| redirect.client);
        });
    }

    /// What comes unsolicited is taken from the dedicated connection, if there is one.
    pub(super) fn follow_inbox(&mut self) {
        if self.hear() {
            self.connection.replies.unsolicited.inbox = None;
            return;
        }
        match self.session.way.inbox() {
            Some(inbox) => self.connection.replies.unsolicited.inbox = Some(inbox.clone()),
            None => self.empty_inbox(),
        }
    }

    /// What came before the end of a state is still the client's.
    pub(super) fn empty_inbox(&mut self) {
        let replies = &mut self.connection.replies;
        let before = replies.unsolicited.inbox.take();
        let frames = std::iter::from_fn(|| before.as_ref()?.take());
        frames.for_each(|frame| replies.loud().put_slice(&frame));
    }

    /// Waits for more requests while replies leave.
    pub(super) async fn exchange(&mut self) -> Result<(), End> {
        let Some(until) = self.session.way.until() else { return self.connection.exchange().await };
        // Past that moment it goes back to the shared lanes, once it has been answered.
        let left = Duration::from_millis(until.since(Tick::now()));
        let patience = if self.connection.replies.is_settled() { left } else { left.max(Duration::from_secs(1)) };
        tokio::time::timeout(patience, self.connection.exchange()).await.unwrap_or(Ok(()))
    }

    /// Sees, between requests, whether the client needs a lane or a connection of its own, or does not any more: for as
    /// long as its replies are very long, because nobody else should wait behind them (hazard 18), and for as long as
    /// it sends commands that the table does not know.
    pub(super) fn weigh(&mut self) {
        if !self.connection.replies.is_settled() {
            return;
        }
        self.session.way.waits_for_nothing();
        if std::mem::take(&mut self.connection.replies.was_bulky) {
            self.session.way.prolong();
            self.isolate();
        } else if self.session.way.until().is_some_and(|until| until <= Tick::now()) {
            self.session.way.expire();
            self.settle_way();
        }
    }

    /// From now on it has a lane for itself, if one may be had.
    fn isolate(&mut self) {
        if self.transaction.is_some() || !self.session.way.may_be_isolated() {
            return;
        }
        if let Some(lane) =
            self.services.upstream.private_lane(&self.session.group, self.session.peer.id, &self.session.account)
        {
            self.session.way.isolate(lane);
        }
    }
}
