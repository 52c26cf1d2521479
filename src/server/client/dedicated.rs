//! A client whose state the upstream keeps: subscriptions, CLIENT TRACKING and its kin, MONITOR. While it has one, all
//! its commands go over a connection of its own, which is its lane; it is given back clean when nothing is left of the
//! state, and dropped with the client otherwise (hazard 14).

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::command::{OwnedRequest, Spec};
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::resp::pubsub::Kind;
use crate::route::Pin;
use crate::session::{Redirect, Waits};
use crate::upstream::{Batch, Expect, Lost, Pinned};

/// How long after a very long reply, or a command that the table does not know, a client keeps a connection of its own.
const OWN: Duration = Duration::from_secs(10);
const LOST: &str = "ERR hearthside: the upstream connection was lost";

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The client's own connection, lent if it has none; `None` when the client has been told that there is none.
    pub(crate) async fn own(&mut self, soon: Duration) -> Result<Option<Pinned>, End> {
        match self.pinned.take() {
            Some(pinned) => Ok(Some(pinned)),
            None => self.lent(soon).await,
        }
    }

    /// A connection lent to the client; `None` when the client has been told that there is none.
    pub(crate) async fn lent(&mut self, soon: Duration) -> Result<Option<Pinned>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let pinned = self.unless_left(soon, services.upstream.pin(&group, &account)).await?;
        Ok(pinned.map_err(|error| self.error(&error.to_string())).ok())
    }

    /// All commands of the client go over this connection from now on.
    pub(crate) fn hold(&mut self, pinned: &Pinned) {
        if !self.session.is_held() {
            self.session.hold_on(pinned.lane(), pinned.inbox.clone());
            self.link.replies.inbox = Some(pinned.inbox.clone());
        }
    }

    /// SUBSCRIBE, UNSUBSCRIBE and their kin. What follows waits for the confirmations, because they decide what it means.
    pub(crate) async fn subscribe(
        &mut self,
        kind: Kind,
        spec: &'static Spec,
        request: &OwnedRequest,
    ) -> Result<(), End> {
        let Some(pinned) = self.own(Duration::ZERO).await? else { return Ok(()) };
        let expect = match request.view().len() {
            // One that must name channels is answered with one error.
            1 if spec.arity == -1 => Expect::AllOf(kind),
            arguments => Expect::Confirmations(arguments.max(2) as u32 - 1),
        };
        self.describe(Some(&pinned));
        self.hold(&pinned);
        let length = request.bytes().len();
        let run = Batch { is_timed: true, ..Batch::expecting(request.bytes(), expect) };
        self.link.replies.run(pinned.lane().submit(run), length);
        self.pinned = Some(pinned);
        self.link.gathered().await
    }

    /// A command that sets, or tells, what the upstream keeps for a connection.
    pub(crate) async fn state(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let (bytes, redirect) = match self.redirected(request) {
            Ok(rewritten) => rewritten,
            Err(text) => {
                self.error(text);
                return Ok(());
            }
        };
        let Some(pinned) = self.own(Duration::ZERO).await? else { return Ok(()) };
        let mut pushes = BytesMut::new();
        match pinned.call(&bytes, &mut pushes).await {
            Err(Lost) => self.error(LOST),
            Ok(reply) => {
                if &reply[..] == b"+OK\r\n" {
                    self.session.hold.redirect = redirect.or(self.session.hold.redirect);
                    self.session.hold.accept(&request.view());
                }
                let reply = told_redirect(&reply, self.session.hold.redirect);
                self.link.replies.loud().put_slice(&pushes);
                self.link.replies.tail().put_slice(&reply);
                self.pinned = Some(pinned);
            }
        }
        Ok(())
    }

    /// CLIENT TRACKING ... REDIRECT names a client by our id; the upstream knows that client's own connection by another.
    fn redirected(&self, request: &OwnedRequest) -> Result<(Bytes, Option<Redirect>), &'static str> {
        let view = request.view();
        let Some(at) = (3..view.len()).find(|i| view.is(*i - 1, "REDIRECT")).filter(|_| view.is(1, "TRACKING")) else {
            return Ok((request.bytes(), None));
        };
        let id = parse_i64(view.arg(at)).and_then(|id| u64::try_from(id).ok());
        let peer = id.and_then(|id| self.services.clients.find(id));
        let peer = peer.ok_or("ERR The client ID you want redirect to does not exist")?;
        let connection = peer.read(|state| state.connection).ok_or(
            "ERR hearthside: the client to redirect to has no upstream connection of its own yet; let it subscribe to \
             __redis__:invalidate first",
        )?;
        let id = connection.to_string();
        let words: Vec<&[u8]> =
            view.args_from(0).enumerate().map(|(i, word)| if i == at { id.as_bytes() } else { word }).collect();
        let mut bytes = BytesMut::new();
        encode::request(&mut bytes, &words);
        Ok((bytes.freeze(), Some(Redirect { client: peer.id, connection })))
    }

    /// MONITOR and SCRIPT DEBUG: from now on replies cannot be told from what else comes.
    pub(crate) async fn listen(&mut self, pin: Pin, request: &OwnedRequest) -> Result<(), End> {
        let Some(pinned) = self.own(Duration::ZERO).await? else { return Ok(()) };
        let mut pushes = BytesMut::new();
        if pin == Pin::Monitor || !request.view().is(2, "NO") {
            pinned.will_listen();
        }
        match pinned.call(&request.bytes(), &mut pushes).await {
            Err(Lost) => self.error(LOST),
            Ok(reply) => {
                if &reply[..] == b"+OK\r\n" {
                    self.session.hold.monitor |= pin == Pin::Monitor;
                    self.session.hold.debug |= pin == Pin::Debug && !request.view().is(2, "NO");
                }
                if self.session.hold.is_raw() {
                    pinned.listen();
                }
                self.link.replies.loud().put_slice(&pushes);
                self.link.replies.tail().put_slice(&reply);
                self.pinned = Some(pinned);
            }
        }
        Ok(())
    }

    /// Decides, after something that may have changed it, whether the client still needs its own connection.
    pub(crate) fn keep_or_give_back(&mut self) {
        let Some(pinned) = self.pinned.take() else {
            if self.session.is_held() && self.session.keeps_nothing() {
                self.go_on_without();
            } else if self.session.is_held() {
                // What the upstream kept for it is gone, and cannot be made anew behind its back.
                self.session.closing = true;
            }
            return self.describe(None);
        };
        if self.session.hold.is_set() || pinned.inbox.subscribed() != [0; 3] {
            self.hold(&pinned);
        } else if self.session.is_held() {
            self.release();
        }
        if self.session.is_held() || self.transaction.is_some() {
            self.describe(Some(&pinned));
            self.pinned = Some(pinned);
        } else {
            self.describe(None);
            pinned.give_back();
        }
    }

    /// A connection is lost that was the client's own for no more than what is forgotten after a while.
    pub(crate) fn go_on_without(&mut self) {
        (self.session.hold.unknown, self.own_until) = (false, None);
        self.release();
    }

    /// The client goes back to the shared lanes.
    pub(crate) fn release(&mut self) {
        // What came unasked before the end of the state is still the client's.
        if let Some(inbox) = self.link.replies.inbox.take() {
            std::iter::from_fn(|| inbox.take()).for_each(|frame| self.link.replies.loud().put_slice(&frame));
        }
        self.session.let_go();
    }

    /// Waits for more requests while replies leave.
    pub(crate) async fn exchange(&mut self) -> Result<(), End> {
        let Some(until) = self.own_until else { return self.link.exchange().await };
        // Past that moment it goes back to the shared lanes, once it has been answered.
        let again = Instant::now() + Duration::from_secs(1);
        let until = if self.link.replies.is_settled() { until } else { until.max(again) };
        tokio::time::timeout_at(until.into(), self.link.exchange()).await.unwrap_or(Ok(()))
    }

    /// Sees, between requests, whether the client needs a connection of its own, or does not any more: for as long as its
    /// replies are very long, because nobody else should wait behind them (hazard 18), and for as long as it sends commands
    /// that the table does not know.
    pub(crate) fn weigh(&mut self) {
        if std::mem::take(&mut self.session.has_asked_unknown) {
            self.own_until = Some(Instant::now() + OWN);
        }
        if !self.link.replies.is_settled() {
            return;
        }
        (self.session.waits_for, self.session.may_wait) = (Waits::default(), false);
        if std::mem::take(&mut self.link.replies.was_bulky) {
            self.own_until = Some(Instant::now() + OWN);
            self.isolate();
        } else if self.own_until.is_some_and(|until| until <= Instant::now()) {
            self.own_until = None;
            self.mix();
        }
    }

    /// When it last sent a command that the table does not know, as far as it has a connection because of that.
    pub(crate) fn asked_unknown_at(&self) -> Option<Instant> {
        self.own_until.filter(|_| self.session.hold.unknown).map(|until| until - OWN)
    }

    /// From now on it has a lane for itself, if one may be had.
    fn isolate(&mut self) {
        if self.session.is_held() || self.transaction.is_some() || self.session.has_private_lane() {
            return;
        }
        if let Some(lane) = self.services.upstream.private_lane(&self.session.group, &self.session.account) {
            self.session.change_lane(Some(lane));
        }
    }

    /// Goes back to the lanes that all share, unless something else keeps it.
    fn mix(&mut self) {
        if std::mem::take(&mut self.session.hold.unknown) {
            // Nobody knows what was left there.
            self.pinned.iter_mut().for_each(Pinned::moved);
            self.keep_or_give_back();
        }
        self.session.change_lane(None);
    }

    /// Tells the other clients what this one is in.
    pub(crate) fn describe(&mut self, pinned: Option<&Pinned>) {
        self.session.is_pinned = pinned.is_some();
        let (hold, subscribed) = (self.session.hold.clone(), self.session.subscribed());
        self.session.peer.update(|state| {
            state.connection = pinned.and_then(|pinned| pinned.id);
            state.subscribed = subscribed;
            (state.tracking, state.monitor) = (hold.tracking, hold.monitor);
            (state.no_evict, state.no_touch) = (hold.no_evict, hold.no_touch);
            state.redirect = hold.redirect.map(|redirect| redirect.client);
        });
    }
}

/// The reply of CLIENT GETREDIR or TRACKINGINFO, with our id of the client in the place of the upstream's.
fn told_redirect(reply: &Bytes, redirect: Option<Redirect>) -> Bytes {
    let Some(redirect) = redirect else { return reply.clone() };
    let text = String::from_utf8_lossy(reply);
    let (theirs, ours) = (format!(":{}\r\n", redirect.connection), format!(":{}\r\n", redirect.client));
    if *text == theirs {
        return Bytes::from(ours);
    }
    let marker = "redirect\r\n";
    Bytes::from(text.replacen(&format!("{marker}{theirs}"), &format!("{marker}{ours}"), 1))
}
