//! Requests that may take any length of time, each on a connection where it delays nobody else: blocking commands,
//! commands that the table does not know, and those that end what keeps the upstream busy. When the client leaves, the
//! connection is dropped, and the upstream forgets who was waiting.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::command::{OwnedRequest, Request};
use crate::errors;
use crate::resp::{decode, encode, reply};
use crate::route::{Pin, Refusal, Unknown, may_end_server};
use crate::telemetry::clock::Tick;
use crate::upstream::{ConnectError, Expect, Lost, Onward, PING, Pinned, To, Trail};

/// A connection as whoever ends a wait there names it.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// The upstream's id of it.
    pub(super) id: i64,
    /// The node of a cluster that it leads to.
    pub(super) node: Option<Arc<str>>,
}

/// The connection on which a command waits.
pub(super) struct On {
    seat: Option<Seat>,
    /// Comes when everything that it was given has been sent.
    sent: std::pin::Pin<Box<dyn Future<Output = ()>>>,
}

impl On {
    pub(super) fn of(pinned: &Pinned) -> Self {
        let seat = pinned.id.map(|id| Seat { id, node: pinned.node() });
        Self { seat, sent: Box::pin(pinned.sent()) }
    }
}

/// How a blocking command ended.
pub(super) enum Waited {
    /// The upstream answered, or was lost.
    Ended(Result<Bytes, Lost>),
    /// The client may not wait for that any more; the error says why.
    Revoked(Refusal),
}

/// What a client must get before more of it is taken.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// Every answer that it is owed.
    Answers,
    /// Room for more of them.
    Room,
}

/// A client that closes its sending side so soon after a command that the table does not know is still answered: most
/// do not wait. One that leaves later has waited, and does not any more.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// Looks that a reply gets which may lie in the connection's socket when its client leaves.
const LAST_LOOKS: usize = 4;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// One request, one reply, however long it takes, over a connection that is given back.
    pub(super) async fn blocking(&mut self, pin: Pin, request: &OwnedRequest) -> Result<(), End> {
        self.connection.settle().await?;
        if pin == Pin::Wait && self.services.upstream.is_cluster() {
            return self.wait_everywhere(request).await;
        }
        let mut trail = Trail::of(self.session.to);
        let Some(mut pinned) = self.borrow(Duration::ZERO).await? else { return Ok(()) };
        let (mut asked, mut begun) = (request.clone(), Instant::now());
        loop {
            if self.services.upstream.may_move() && !asked.view().beginning_now().is_empty() {
                let fixed = self.unless_left(Duration::ZERO, from_here(&pinned, &asked)).await?;
                asked = fixed.unwrap_or(asked);
            }
            let may_go_on = pin != Pin::Wait && self.may_wait_elsewhere(&asked.view());
            let reply = pinned.unless_moved(may_go_on, wait(&pinned, pin, asked.bytes()));
            let waited = self.waited(On::of(&pinned), request, Duration::ZERO, reply).await?;
            let Some(onward) = self.onward(&pinned, &asked, &waited) else {
                self.end_blocking(pinned, request, waited);
                return Ok(());
            };
            if matches!(waited, Waited::Ended(Ok(_))) {
                pinned.give_back();
            }
            let Some(next) = self.go_on(&mut trail, onward).await? else { return Ok(()) };
            pinned = next;
            // What it was told the last time is less already.
            let waited = begun.elapsed();
            begun += waited;
            asked = asked.view().for_the_rest(waited).unwrap_or(asked);
        }
    }

    fn end_blocking(&mut self, pinned: Pinned, request: &OwnedRequest, waited: Waited) {
        match waited {
            Waited::Ended(Ok(reply)) => {
                self.connection.replies.tail().put_slice(&reply);
                pinned.give_back();
                // Of what it may have read.
                self.session.note_unheard(&self.services.upstream);
            }
            Waited::Ended(Err(Lost)) => self.error(errors::upstream::LOST_WAITING),
            Waited::Revoked(refusal) => self.refused(request, &refusal),
        }
    }

    /// Where a request goes that a node of a cluster, or a server that is not the upstream any more, has not carried
    /// out; one whose connection to a node was lost, only if it reads.
    fn onward(&self, pinned: &Pinned, request: &OwnedRequest, waited: &Waited) -> Option<Onward> {
        match waited {
            Waited::Ended(Ok(reply)) => self.services.upstream.onward(pinned, reply),
            Waited::Ended(Err(Lost)) if self.may_be_read_again(&request.view()) => {
                Some(Onward::again(errors::upstream::LOST_WAITING))
            }
            Waited::Ended(Err(Lost)) | Waited::Revoked(_) => None,
        }
    }

    /// True of what has done nothing when its wait is ended, and asks the next server for the same. A read that begins
    /// with the end of a stream asks for something else there.
    fn may_wait_elsewhere(&self, request: &Request<'_>) -> bool {
        let spec = self.services.upstream.lookup(request.arg(0), request.arg(1));
        spec.is_some_and(|spec| spec.flags.blocking) && request.beginning_now().is_empty()
    }

    fn may_be_read_again(&self, request: &Request<'_>) -> bool {
        let spec = self.services.upstream.lookup(request.arg(0), request.arg(1));
        self.services.upstream.is_cluster()
            && spec.is_some_and(|spec| spec.flags.readonly)
            && request.beginning_now().is_empty()
    }

    /// A connection to where a request goes that a node has sent on; `None` when there is none, which the client has
    /// been answered.
    pub(super) async fn go_on(&mut self, trail: &mut Trail, onward: Onward) -> Result<Option<Pinned>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let followed = services.upstream.follow(trail, onward, &group, &account);
        match self.unless_left(Duration::ZERO, followed).await? {
            Ok(pinned) => self.told(pinned).await,
            Err(text) => {
                self.error(&text);
                Ok(None)
            }
        }
    }

    /// Over a connection that runs nothing else, and need not have been greeted: a busy upstream does not take all of a
    /// greeting, and what it does take must reach it.
    pub(super) async fn aside(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let asked = async {
            let pinned = services.upstream.pin_aside(To::Home, &group, &account).await?;
            let reply = wait(&pinned, Pin::Aside, request.bytes()).await;
            if reply.is_ok() {
                pinned.give_back();
            }
            Ok::<_, ConnectError>(reply)
        };
        match self.unless_left(SOON, asked).await? {
            Ok(Ok(reply)) => self.connection.replies.tail().put_slice(&reply),
            // The server has ended as it was told: its client sees the end of the connection, and no reply.
            Ok(Err(Lost)) if may_end_server(&request.view()) => self.session.closing = true,
            Ok(Err(Lost)) => self.error(errors::upstream::LOST_WAITING),
            Err(error) => self.error(&error.to_string()),
        }
        Ok(())
    }

    /// A command that may wait, and may set what the upstream keeps for a connection. The client keeps that connection
    /// for its next ones, and nobody is given it afterwards; if the upstream did nothing it is given back at once.
    pub(super) async fn unknown(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<(), End> {
        if self.services.upstream.is_cluster() {
            return self.unknown_at_node(unknown, request).await;
        }
        if !self.has_own(SOON).await? {
            return Ok(());
        }
        let Some(own) = self.session.way.connection() else { return Ok(()) };
        let mut pushes = BytesMut::new();
        let (on, asked) = (On::of(own), own.ask_patiently(request.bytes(), Expect::Replies(1), &mut pushes));
        match self.waited(on, request, SOON, asked).await? {
            Waited::Ended(Ok(reply)) => {
                self.connection.replies.loud().put_slice(&pushes);
                self.connection.replies.tail().put_slice(&reply);
                if !unknown.left_nothing(&reply) {
                    self.note_left(unknown);
                }
            }
            Waited::Ended(Err(Lost)) => {
                self.session.lose_connection();
                self.error(errors::upstream::LOST_WAITING);
            }
            Waited::Revoked(refusal) => {
                self.session.lose_connection();
                self.refused(request, &refusal);
            }
        }
        Ok(())
    }

    /// The command may have left something on the client's own connection.
    pub(super) fn note_left(&mut self, unknown: Unknown) {
        self.session.way.connection_mut().into_iter().for_each(Pinned::moved);
        // Where connections are scarce the next one is a new one.
        if unknown == Unknown::State || self.session.way.is_dedicated() || self.services.upstream.has_spare() {
            self.session.way.has_left(unknown);
        }
    }

    /// Waits until the client has got what it needs. What may take any time ends when the client leaves; but after a
    /// command that the table does not know it may only have closed its sending side.
    pub(super) async fn gets(&mut self, needs: Needs) -> Result<(), End> {
        let got = self.connection.gets(needs).await;
        let Err(end @ (End::Left | End::Draining)) = got else { return got };
        self.connection.may_wait = false;
        let patience = self.patience_after_unknown().unwrap_or_default();
        tokio::time::timeout(patience, self.connection.gets(needs)).await.unwrap_or(Err(end))
    }

    /// How long an unknown command that is under way may still take when its client leaves.
    fn patience_after_unknown(&self) -> Option<Duration> {
        let asked = self.session.way.asked_unknown_at()?;
        Some(SOON.saturating_sub(Duration::from_millis(Tick::now().since(asked))))
    }

    /// Answers what is still owed to a client that leaves: it may only have closed its sending side. Whoever waits and
    /// leaves does not wait any more, as at the upstream itself.
    pub(super) async fn farewell(&mut self) -> Result<(), End> {
        if self.session.way.state().follows_by().is_some() {
            // What it follows has no end.
            self.connection.flush().await;
            return Ok(());
        }
        if !self.session.way.may_wait() || self.connection.replies.is_settled() {
            return self.connection.settle().await;
        }
        if let Some(patience) = self.patience_after_unknown() {
            self.connection.may_wait = false;
            // Too late, or unblocked: in both cases what is ready is written.
            let _ = tokio::time::timeout(patience, self.connection.settle()).await;
        }
        self.connection.flush().await;
        Ok(())
    }

    /// A reply that is waited for, as the other clients see; should the client leave `soon` after it was asked for,
    /// too.
    pub(super) async fn waited(
        &mut self,
        on: On,
        request: &OwnedRequest,
        soon: Duration,
        reply: impl Future<Output = Result<Bytes, Lost>>,
    ) -> Result<Waited, End> {
        let (seat, peer) = (on.seat, self.session.peer.clone());
        let (id, node) = (seat.as_ref().map(|seat| seat.id), seat.as_ref().and_then(|seat| seat.node.clone()));
        self.session.peer.update(|state| (state.connection, state.node) = (id, node));
        let until = Instant::now() + soon;
        // Who sees that it waits, and sends something, must not overtake what it waits with.
        let (mut reply, mut sent, mut is_sent) = (pin!(reply), on.sent, false);
        let seen = poll_fn(move |cx| {
            let come = reply.as_mut().poll(cx);
            if come.is_pending() && !is_sent && sent.as_mut().poll(cx).is_ready() {
                is_sent = true;
                peer.update(|state| state.blocked = true);
            }
            come
        });
        let waited = self.wait_allowed(seat, request, until, seen).await;
        self.session.peer.update(|state| (state.connection, state.blocked) = (None, false));
        waited
    }

    /// What is waited for, unless the client leaves before, and not `soon` after it was asked for.
    pub(super) async fn unless_left<T>(&mut self, soon: Duration, awaited: impl Future<Output = T>) -> Result<T, End> {
        let (mut awaited, until) = (pin!(awaited), Instant::now() + soon);
        let end = tokio::select! {
            biased;
            come = &mut awaited => return Ok(come),
            end = self.connection.left() => end,
        };
        at_last(awaited, until, end).await
    }
}

/// What has come when a client is seen to leave is still its own: it may only have closed its sending side, and nobody
/// else will be given it. So is what comes before `until`.
pub(super) async fn at_last<T>(
    mut awaited: std::pin::Pin<&mut impl Future<Output = T>>,
    until: Instant,
    end: End,
) -> Result<T, End> {
    if !matches!(end, End::Left | End::Draining) {
        return Err(end);
    }
    for _ in 0..LAST_LOOKS {
        // The connection's task has its turn, and the sockets are looked at.
        tokio::task::yield_now().await;
        if let Poll::Ready(come) = poll_fn(|cx| Poll::Ready(awaited.as_mut().poll(cx))).await {
            return Ok(come);
        }
    }
    tokio::time::timeout_at(until.into(), awaited).await.map_err(|_| end)
}

/// A read that begins with the end of streams, with the last ids there instead: a node that has the slot later is then
/// asked for what came before it had it, too. `None` where the node does not tell.
async fn from_here(pinned: &Pinned, request: &OwnedRequest) -> Option<OwnedRequest> {
    let view = request.view();
    let mut words: Vec<Vec<u8>> = view.args_from(0).map(<[u8]>::to_vec).collect();
    for (at, key) in view.beginning_now() {
        let mut ask = BytesMut::new();
        encode::request(&mut ask, &[&b"XINFO"[..], b"STREAM", key]);
        let told = pinned.call(&ask, &mut BytesMut::new()).await.ok()?;
        words[at] = match decode::error(&told) {
            Some(error) if error == errors::as_redis::NO_SUCH_KEY => b"0-0".to_vec(),
            Some(_) => return None,
            None => {
                let parts = reply::parts(&told)?;
                let fields = parts.chunks_exact(2);
                let last = fields
                    .map(|two| (two[0], two[1]))
                    .find(|(name, _)| decode::bulk(name).is_some_and(|name| name == b"last-generated-id"));
                decode::bulk(last?.1)?.to_vec()
            }
        };
    }
    Some(OwnedRequest::from_words(&words))
}

/// WAIT counts replicas that have what its connection wrote; behind a command that just ran there, that is everything
/// written so far, on whichever lane.
pub(super) async fn wait(pinned: &Pinned, pin: Pin, request: Bytes) -> Result<Bytes, Lost> {
    let mut pushes = BytesMut::new();
    if pin == Pin::Wait {
        let mut ping = BytesMut::new();
        encode::request(&mut ping, &PING);
        pinned.call(&ping, &mut pushes).await?;
    }
    pinned.ask_patiently(request, Expect::Replies(1), &mut pushes).await
}
