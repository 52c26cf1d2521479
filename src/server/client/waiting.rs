//! Requests that may take any time, each on a connection where it holds up nobody: blocking commands, commands that the
//! table does not know, and those that end what keeps the upstream busy. A client that leaves takes its wait with it: the
//! connection is dropped, and the upstream forgets who was waiting.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use super::revoke::Waited;
use crate::command::OwnedRequest;
use crate::resp::encode;
use crate::route::{Pin, Unknown};
use crate::upstream::{Expect, Lost, Pinned};

/// What a client is told whose connection is lost while it has the road for itself.
pub(crate) const LOST: &str =
    "ERR hearthside: the upstream connection was lost while waiting; the command may have been applied";
/// A client that closes its sending side so soon after a command that the table does not know is still answered: most do
/// not wait. One that leaves later has waited, and does not any more.
const SOON: Duration = Duration::from_secs(1);
/// Looks that a reply gets which may lie in the connection's socket when its client leaves.
const LAST_LOOKS: usize = 4;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// One request, one reply, however long it takes, over a connection that is given back.
    pub(crate) async fn blocking(&mut self, pin: Pin, request: &OwnedRequest) -> Result<(), End> {
        self.link.settle().await?;
        let Some(pinned) = self.lent(Duration::ZERO).await? else { return Ok(()) };
        let reply = wait(&pinned, pin, request.bytes());
        match self.waited(&pinned, request, Duration::ZERO, reply).await? {
            Waited::Ended(Ok(reply)) => {
                self.link.replies.tail().put_slice(&reply);
                pinned.give_back();
            }
            Waited::Ended(Err(Lost)) => self.error(LOST),
            Waited::Revoked(refusal) => self.refused(request, &refusal),
        }
        Ok(())
    }

    /// Over a connection that runs nothing else, and need not have been greeted: a busy upstream does not take all of a
    /// greeting, and what it does take must reach it.
    pub(crate) async fn aside(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let asked = async {
            let pinned = services.upstream.pin_aside(&group, &account).await.map_err(|error| error.to_string())?;
            let reply = wait(&pinned, Pin::Aside, request.bytes()).await.map_err(|Lost| LOST)?;
            pinned.give_back();
            Ok(reply)
        };
        match self.unless_left(SOON, asked).await? {
            Ok(reply) => self.link.replies.tail().put_slice(&reply),
            Err(text) => {
                let text: String = text;
                self.error(&text);
            }
        }
        Ok(())
    }

    /// A command that may wait, and may set what the upstream keeps for a connection. The client keeps that connection for
    /// its next ones, and nobody is given it afterwards; if the upstream did nothing it is given back at once.
    pub(crate) async fn unknown(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<(), End> {
        let Some(mut pinned) = self.own(SOON).await? else { return Ok(()) };
        let mut pushes = BytesMut::new();
        let asked = pinned.ask_patiently(request.bytes(), Expect::Replies(1), &mut pushes);
        let reply = match self.waited(&pinned, request, SOON, asked).await? {
            Waited::Ended(Ok(reply)) => reply,
            Waited::Ended(Err(Lost)) => {
                self.error(LOST);
                return Ok(());
            }
            Waited::Revoked(refusal) => {
                self.refused(request, &refusal);
                return Ok(());
            }
        };
        self.link.replies.loud().put_slice(&pushes);
        self.link.replies.tail().put_slice(&reply);
        if !unknown.left_nothing(&reply) {
            pinned.moved();
            // Where connections are scarce the next one is opened anew.
            if unknown == Unknown::OfClient || self.session.is_held() || self.services.upstream.has_spare() {
                self.session.has_left(unknown);
            }
        }
        self.pinned = Some(pinned);
        Ok(())
    }

    /// Answers what is still owed to a client that leaves: it may only have closed its sending side. Whoever waits and leaves
    /// does not wait any more, as at the upstream itself.
    pub(crate) async fn farewell(&mut self) -> Result<(), End> {
        if !self.session.may_wait || self.link.replies.is_settled() {
            return self.link.settle().await;
        }
        let asked = if self.session.has_asked_unknown { Some(Instant::now()) } else { self.asked_unknown_at() };
        if let Some(asked) = asked {
            // Late, or told: either way what is ready is written.
            let _ = tokio::time::timeout_at((asked + SOON).into(), self.link.settle()).await;
        }
        self.link.flush().await;
        Ok(())
    }

    /// A reply that is waited for, as the other clients see; should the client leave `soon` after it was asked for, too.
    async fn waited(
        &mut self,
        pinned: &Pinned,
        request: &OwnedRequest,
        soon: Duration,
        reply: impl Future<Output = Result<Bytes, Lost>>,
    ) -> Result<Waited, End> {
        self.session.peer.update(|state| (state.connection, state.blocked) = (pinned.id, true));
        let until = Instant::now() + soon;
        let waited = self.wait_allowed(pinned, request, until, reply).await;
        self.session.peer.update(|state| (state.connection, state.blocked) = (None, false));
        waited
    }

    /// What is waited for, unless the client leaves before, and not `soon` after it was asked for.
    pub(crate) async fn unless_left<T>(&mut self, soon: Duration, awaited: impl Future<Output = T>) -> Result<T, End> {
        let (mut awaited, until) = (pin!(awaited), Instant::now() + soon);
        let end = tokio::select! {
            biased;
            come = &mut awaited => return Ok(come),
            end = self.link.left() => end,
        };
        at_last(awaited, until, end).await
    }
}

/// What has come when a client is seen to leave is still its own: it may only have closed its sending side, and nobody else
/// will be given it. So is what comes before `until`.
pub(crate) async fn at_last<T>(
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

/// WAIT counts replicas that have what its connection wrote; behind a command that just ran there, that is everything
/// written so far, on whichever lane.
async fn wait(pinned: &Pinned, pin: Pin, request: Bytes) -> Result<Bytes, Lost> {
    let mut pushes = BytesMut::new();
    if pin == Pin::Wait {
        let mut ping = BytesMut::new();
        encode::request(&mut ping, &["PING"]);
        pinned.call(&ping, &mut pushes).await?;
    }
    pinned.ask_patiently(request, Expect::Replies(1), &mut pushes).await
}
