//! One client's socket, with the bytes that were read from it and the replies that are owed to it: everything that the
//! client's task can wait for. It reads and writes at the same time (`transfer.rs`), so that a client may send a long
//! pipeline before it reads a reply; what is held for it is bounded (hazard 17).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::blocking::Needs;
use super::replies::Replies;
use super::unsolicited::Stopped;
use crate::clients::Peer;
use crate::config::Limits;
use crate::server::broadcast::Broadcast;
use crate::session::Session;
use crate::telemetry::metrics::ClientMetrics;
use crate::upstream::Account;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed its side.
    Left,
    /// The sidecar is shutting down.
    Draining,
    /// Another client ended it (CLIENT KILL).
    Killed,
    /// The client did not read its replies.
    Cut,
    /// A reply was cut short upstream: its rest will never come.
    Broken,
    /// The socket failed.
    Socket(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// How long a client that is closed may take to receive what is last written to it.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

pub(in crate::server) struct Connection<S> {
    pub(super) peer: Arc<Peer>,
    pub(super) account: Rc<Account>,
    pub(super) stream: S,
    pub(super) incoming: BytesMut,
    pub(super) replies: Replies,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<ClientMetrics>,
    pub(super) broadcast: Rc<Broadcast>,
    /// How many announcements there had been when this client last looked.
    heard: u64,
    /// Bytes that were ready when the last turn left them for the next.
    pub(super) ready: usize,
    /// Nothing could be written to it lately.
    pub(super) is_stalled: bool,
    /// Something was written and perhaps not sent.
    pub(super) is_unflushed: bool,
    /// Bytes of its requests that wait for a transaction's end.
    pub(super) kept: usize,
    /// Something under way may take any time: whoever leaves does not wait for it any more.
    pub(super) may_wait: bool,
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.broadcast.leave(self.peer.id);
        self.account.leave();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The connection of the client that `session` is of.
    pub(in crate::server) fn new(
        session: &Session,
        stream: S,
        limits: Arc<Limits>,
        metrics: Arc<ClientMetrics>,
        broadcast: Rc<Broadcast>,
    ) -> Self {
        session.account.limit(limits.client_output.0);
        let mut replies = Replies::default();
        replies.unsolicited.peer = Some(session.peer.clone());
        replies.metrics = Some(metrics.clone());
        Self {
            peer: session.peer.clone(),
            account: session.account.clone(),
            stream,
            incoming: BytesMut::new(),
            replies,
            limits,
            metrics,
            heard: broadcast.announcements(),
            broadcast,
            ready: 0,
            is_stalled: false,
            is_unflushed: false,
            kept: 0,
            may_wait: false,
        }
    }

    /// Lets a shutdown, a reload or another client wake this task.
    pub(super) async fn enroll(&self) {
        let waker = poll_fn(|cx| {
            self.peer.enroll(cx);
            Poll::Ready(cx.waker().clone())
        })
        .await;
        self.broadcast.enroll(self.peer.id, waker);
    }

    /// Why it must end whatever it does, if so.
    fn ended(&self) -> Option<End> {
        if self.peer.is_killed() {
            return Some(End::Killed);
        }
        self.broadcast.drains().map(|_| End::Draining)
    }

    /// Writes what is ready and returns when more was read, or something was announced.
    pub(super) async fn exchange(&mut self) -> Result<(), End> {
        loop {
            if self.has_room() {
                if poll_fn(|cx| self.poll_exchange(cx)).await? {
                    return Ok(());
                }
            } else {
                self.make_room().await?;
            }
        }
    }

    /// Reads what is here already or comes within `patience`; false when there is nothing.
    pub(super) async fn read_soon(&mut self, patience: Duration) -> Result<bool, End> {
        match tokio::time::timeout(patience, self.read()).await {
            Ok(Err(End::Left)) | Err(_) => Ok(false),
            Ok(read) => read.map(|()| true),
        }
    }

    /// Waits until more was read, whatever is owed.
    pub(super) async fn read(&mut self) -> Result<(), End> {
        poll_fn(|cx| match self.ended() {
            Some(end) => Poll::Ready(Err(end)),
            None => self.poll_read(cx),
        })
        .await
    }

    /// Writes everything that is owed.
    pub(super) async fn settle(&mut self) -> Result<(), End> {
        self.drive(|replies| replies.is_settled() && replies.out.is_empty()).await
    }

    /// Writes what is ready, and nothing of what is still to come, to a client that will be closed.
    pub(super) async fn flush(&mut self) {
        // A client that does not read does not get it.
        let _late = tokio::time::timeout(FAREWELL, poll_fn(|cx| self.poll_flush_out(cx))).await;
    }

    /// The same for a client that may take as long for it as for any reply, unless it is killed or the sidecar stops.
    pub(super) async fn flush_patiently(&mut self) {
        let patience = self.limits.client_output_timeout;
        let written = poll_fn(|cx| match self.ended() {
            Some(_) => Poll::Ready(()),
            None => self.poll_flush_out(cx),
        });
        let _late = tokio::time::timeout(patience, written).await;
    }

    fn poll_flush_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.replies.out.is_empty() {
            match self.replies.out.poll_write(&mut self.stream, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx).map(|_flushed_or_gone| ())
    }

    /// Waits until every request is answered, and writes nothing: what follows decides first.
    pub(super) async fn gathered(&mut self) -> Result<(), End> {
        poll_fn(|cx| {
            if let Some(end) = self.peer.is_killed().then_some(End::Killed) {
                return Poll::Ready(Err(end));
            }
            match self.replies.poll(cx, usize::MAX) {
                Err(stopped) => Poll::Ready(Err(self.stop(stopped))),
                Ok(()) if self.replies.is_settled() => Poll::Ready(Ok(())),
                Ok(()) => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn stop(&self, stopped: Stopped) -> End {
        match stopped {
            Stopped::Broken => End::Broken,
            Stopped::Overflowed => self.cut(),
        }
    }

    /// Waits for `work`, while what is ready is written. Only CLIENT KILL ends that: a client that has closed its
    /// sending side may still want the answer, and what is awaited has its own deadline.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.peer.is_killed() {
                return Poll::Ready(Err(End::Killed));
            }
            self.peer.enroll(cx);
            self.poll_output(cx)?;
            Poll::Pending
        })
        .await
    }

    /// Waits until every request is answered, though perhaps not everything is written.
    pub(super) async fn answered(&mut self) -> Result<(), End> {
        self.drive(Replies::is_settled).await
    }

    /// Waits until the client has got this.
    pub(super) async fn gets(&mut self, needs: Needs) -> Result<(), End> {
        match needs {
            Needs::Answers => self.answered().await,
            Needs::Room => self.make_room().await,
        }
    }

    /// Moves replies on until `done`. What is awaited from elsewhere has its own deadline, or ends when the client
    /// leaves; a client that does not read is ended by the reaper.
    async fn drive(&mut self, done: impl Fn(&Replies) -> bool) -> Result<(), End> {
        poll_fn(|cx| self.poll_until(cx, &done)).await
    }

    /// Returns when the client has left; what it sends meanwhile is kept, and what comes for it unsolicited is written.
    pub(super) async fn left(&mut self) -> End {
        self.left_within(self.limits.pipeline.0).await
    }

    /// The same, while no more than `limit` bytes are kept.
    pub(super) async fn left_within(&mut self, limit: usize) -> End {
        poll_fn(|cx| self.poll_left(limit, cx)).await
    }

    /// The same, or `None` once `is_over` holds: it is asked again at every announcement.
    pub(super) async fn left_unless(&mut self, is_over: impl Fn() -> bool) -> Option<End> {
        let limit = self.limits.pipeline.0;
        poll_fn(|cx| if is_over() { Poll::Ready(None) } else { self.poll_left(limit, cx).map(Some) }).await
    }

    fn poll_left(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Some(end) = self.ended() {
                return Poll::Ready(end);
            }
            if let Err(end) = self.poll_output(cx) {
                return Poll::Ready(end);
            }
            if self.incoming.len() > limit {
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) async fn close(&mut self) {
        use tokio::io::AsyncWriteExt;
        // A client that is closed for what it holds must hold it no longer.
        self.replies = Replies::default();
        self.account.leave();
        // The client may be gone already, or not take the closing message (TLS has one).
        let _ = tokio::time::timeout(FAREWELL, self.stream.shutdown()).await;
    }

    pub(super) fn has_room(&self) -> bool {
        self.account.owes() < self.limits.client_output.0
            && self.replies.under_way() < self.limits.pipeline.0
            && !self.replies.is_crowded()
    }

    /// So much is owed that no more requests should be answered now.
    pub(super) fn is_full(&self) -> bool {
        self.replies.waiting() >= self.limits.client_output.0 || !self.has_room()
    }

    /// The output is full: nothing is read until the client takes some of it.
    pub(super) async fn make_room(&mut self) -> Result<(), End> {
        poll_fn(|cx| self.poll_room(cx)).await
    }

    /// Messages were lost for it: it did not read for too long.
    fn cut(&self) -> End {
        self.metrics.cut.inc();
        self.metrics.limited("subscriber_output");
        if let Some(unlogged) = self.metrics.logged.unread_messages.due() {
            tracing::warn!(
                client = self.peer.id,
                address = self.peer.addresses.0,
                limit = "pubsub.subscriber_output",
                unlogged,
                "a client did not read its messages and is disconnected"
            );
        }
        End::Cut
    }

    /// `true`: bytes were read; `false`: the output has become full.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        self.poll_output(cx)?;
        if let Some(end) = self.ended() {
            return Poll::Ready(Err(end));
        }
        if !self.has_room() {
            return Poll::Ready(Ok(false));
        }
        let is_called = std::mem::replace(&mut self.heard, self.broadcast.announcements()) != self.heard;
        if is_called || self.peer.is_summoned() || self.replies.unsolicited.is_called() {
            return Poll::Ready(Ok(true));
        }
        self.poll_read(cx).map_ok(|()| true)
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, done: impl Fn(&Replies) -> bool) -> Poll<Result<(), End>> {
        self.poll_output(cx)?;
        if done(&self.replies) {
            self.may_wait = false;
            return Poll::Ready(Ok(()));
        }
        if self.peer.is_killed() {
            return Poll::Ready(Err(End::Killed));
        }
        self.poll_gone(cx).map(Err)
    }

    /// Ready when something under way may take any time, and the client has left. What else is under way it is still
    /// answered: it may only have closed its sending side.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.may_wait { self.poll_left(self.limits.pipeline.0, cx) } else { Poll::Pending }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.poll_output(cx)?;
        match self.ended() {
            Some(end) => Poll::Ready(Err(end)),
            None if self.has_room() => Poll::Ready(Ok(())),
            None => self.poll_gone(cx).map(Err),
        }
    }
}
