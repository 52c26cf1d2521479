//! THE LOOP: one client, from its first byte to its last.
//!
//! ```text
//! read -> scan -> route -+-> pass-through: gathered into a run, one slice to the client's lane --+
//!                        +-> owned, local: answered in place, or later when a load ends ---------+-> replies -> write
//!                        +-> alone: everything owed is answered, then the client has its own way +
//! ```

mod batch;
pub(super) mod connection;
mod dedicated;
mod exclusive;
mod multi_lookahead;
mod output;
mod replies;
mod resubscribe;
mod revoke;
mod streaming;
mod transacting;
mod waiting;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::command::{OwnedRequest, Request};
use crate::config::AuthMode;
use crate::dispatch::{Exclusive, Flow, Services};
use crate::resp::encode;
use crate::resp::request::{RequestFault, RequestScanner, Scan};
use crate::route::{Local, Route, Transaction};
use crate::session::{ReplyMode, Session};
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::transaction;
use crate::upstream::{Expect, Inbox, Pinned};
use batch::Gathered;
use connection::{Connection, End};
use multi_lookahead::{Ahead, LookAhead};
use replies::Replies;
use streaming::HUGE;

pub(super) struct Client<S> {
    pub(super) link: Connection<S>,
    pub(super) session: Session,
    pub(super) services: Rc<Services>,
    pub(super) scanner: RequestScanner,
    pub(super) transaction: Option<transaction::Transaction>,
    /// Its own upstream connection, while its state needs one.
    pub(super) pinned: Option<Pinned>,
    /// Since a very long reply, or a command that the table does not know, it has a connection of its own, until then.
    pub(super) own_until: Option<Instant>,
    pub(super) run: Gathered,
    /// What is under way goes over its own connection, while it watches and other requests go over the lanes.
    pub(super) is_on_own: bool,
    /// What is behind a MULTI.
    ahead: LookAhead,
}

/// What comes after a look at the buffer.
pub(super) enum Next {
    /// Every whole request has been taken: read more.
    Read,
    /// More of a transaction, if it is on its way.
    ReadSoon,
    /// The client must take some of its replies, or be answered, before more is taken from the buffer.
    Room,
    /// What comes next, once everything before it has been answered.
    Settled,
    /// Something that needs the client alone.
    Exclusive(Exclusive),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(link: Connection<S>, session: Session, services: Rc<Services>) -> Self {
        let limits = &services.policy.limits;
        let scanner = RequestScanner::new(limits.request_argument.0, limits.request_arguments);
        Self {
            link,
            session,
            services,
            scanner,
            transaction: None,
            pinned: None,
            own_until: None,
            run: Gathered::default(),
            is_on_own: false,
            ahead: LookAhead::default(),
        }
    }

    /// Serves the client until it leaves, and closes.
    pub(super) async fn serve(&mut self) {
        let mut end = self.converse().await;
        while matches!(end, Err(End::Broken)) && self.can_restore() {
            end = match Box::pin(self.restore()).await {
                Ok(()) => self.converse().await,
                lost => lost,
            };
        }
        self.session.tally.flush(&self.services.metrics.commands);
        match end {
            Err(End::Left | End::Draining) => {
                let _ = self.farewell().await;
            }
            // What came before the loss is the client's.
            Err(End::Broken) => {
                self.tell_loss();
                self.link.flush().await;
            }
            Err(End::Socket(error)) => {
                tracing::debug!(client = self.session.peer.id, %error, "a client's socket failed")
            }
            _ => {}
        }
        self.link.close().await;
    }

    /// A subscription that is lost cannot be hidden: messages may be missing. The client will subscribe anew.
    fn tell_loss(&self) {
        if self.was_slow() {
            self.services.metrics.clients_cut.inc();
            self.services.metrics.limited("client-output-buffer-limit");
            return tracing::warn!(
                client = self.session.peer.id,
                limit = "client-output-buffer-limit pubsub (of the upstream)",
                "a client did not read its messages and is disconnected"
            );
        }
        // A debugging session ends with its connection.
        if self.session.is_held() && !self.session.hold.debug {
            let error = self.link.replies.inbox.as_ref().and_then(Inbox::lost).unwrap_or_default();
            tracing::warn!(
                client = self.session.peer.id,
                %error,
                "a client's own upstream connection was lost, and its subscriptions or tracking with it; the client is closed"
            );
        }
    }

    async fn converse(&mut self) -> Result<(), End> {
        self.link.enroll().await;
        loop {
            if let Some(latest) = self.services.latest() {
                self.adopt(latest);
            }
            self.weigh();
            let next = self.take_requests();
            self.note_subscriber();
            self.session.tally.flush(&self.services.metrics.commands);
            match next {
                Next::Exclusive(alone) => {
                    self.link.answered().await?;
                    // Its own allocation: most clients are idle, and are as large as the largest thing they may do.
                    Box::pin(self.alone(alone)).await?;
                }
                _ if self.session.closing => return self.link.settle().await,
                Next::ReadSoon => {
                    let patience = self.ahead.patience();
                    self.ahead.given_up = !self.link.read_soon(patience).await?;
                }
                Next::Room => self.link.make_room().await?,
                Next::Settled => self.link.answered().await?,
                Next::Read => self.exchange().await?,
            }
        }
    }

    /// Goes over to the configuration that a reload brought.
    pub(super) fn adopt(&mut self, latest: Rc<Services>) {
        self.link.limits = latest.policy.limits.clone();
        self.session.account.limit(self.link.limits.client_output.0);
        self.scanner.set_limits(self.link.limits.request_argument.0, self.link.limits.request_arguments);
        if let Some(transaction) = &mut self.transaction
            && !Arc::ptr_eq(&self.services.owned, &latest.owned)
        {
            transaction.outdate();
        }
        // What has been looked at was judged by the other one.
        self.ahead = LookAhead::default();
        let before = std::mem::replace(&mut self.services, latest);
        self.revoke(&before);
    }

    /// Answers every whole request in the buffer, up to one that needs the client alone.
    fn take_requests(&mut self) -> Next {
        self.session.now = now_ms();
        if self.link.replies.is_settled() {
            self.session.choose_lane(&self.services.upstream);
        }
        let mut next = Next::Read;
        while matches!(next, Next::Read) && !self.session.closing {
            if self.run.length() == 0 && self.link.is_full() {
                next = Next::Room;
                break;
            }
            self.scanner.is_unauthenticated =
                self.session.user.is_none() && self.services.access.mode == AuthMode::Users;
            match self.scanner.scan(&self.link.incoming[self.run.length()..]) {
                Ok(Scan::Incomplete) if self.is_too_long() => self.refuse(&RequestFault::TooLong),
                Ok(Scan::Incomplete) => {
                    next = self.huge().map_or(Next::Read, Next::Exclusive);
                    break;
                }
                Ok(Scan::Complete(length)) => next = self.take_request(length),
                Ok(Scan::Empty(length)) => self.skip(length),
                Ok(Scan::Inline(length, words)) => next = self.take_inline(length, &words),
                Err(fault) => self.refuse(&fault),
            }
        }
        self.send_run();
        self.session.peer.saw(self.session.now, self.session.command);
        self.tell_queued();
        next
    }

    /// True when the unfinished request is longer than any may be that is gathered.
    fn is_too_long(&self) -> bool {
        self.link.incoming.len() - self.run.length() > self.link.limits.request.0
    }

    /// What comes over the shared subscriber connection is written in the client's protocol.
    fn note_subscriber(&mut self) {
        self.link.replies.proto = self.session.proto();
        let subscriber = self.session.subscriber();
        if subscriber.is_some() != self.link.replies.subscriber.is_some() {
            self.link.replies.subscriber = subscriber.cloned();
        }
    }

    fn take_request(&mut self, length: usize) -> Next {
        let at = self.run.length();
        let request = Request::new(&self.link.incoming[at..at + length], self.scanner.spans());
        if self.transaction.is_some() {
            return self.take_transacting(length);
        }
        let route = self.services.paced(&mut self.session, &request);
        self.take_routed(length, route)
    }

    /// A request that is no part of a transaction. Inlined where every request passes: a route is large to hand on.
    #[inline(always)]
    pub(super) fn take_routed(&mut self, length: usize, route: Route) -> Next {
        let is_skipped = self.begin_reply(&route, self.scanner.spans().len());
        match route {
            // What is long to send, or more than the upstream takes, goes where nobody waits behind it.
            Route::PassThrough(_) if length >= HUGE && !self.session.is_held() => self.take_long(length),
            Route::PassThrough(resendable) => self.gather(length, resendable, Expect::Replies(1), is_skipped),
            Route::Unanswered => self.gather(length, false, Expect::Nothing, is_skipped),
            Route::Transaction(Transaction::Multi, _) if self.may_be_slice() => self.take_multi(length, route),
            route => self.answer_alone(length, route),
        }
    }

    /// A long request that had to be gathered.
    fn take_long(&mut self, length: usize) -> Next {
        self.send_run();
        let request = OwnedRequest::copy(&Request::new(&self.link.incoming[..length], self.scanner.spans()));
        self.link.incoming.advance(length);
        self.session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        Next::Exclusive(Exclusive::Long(request))
    }

    /// One more unit of the run.
    fn gather(&mut self, length: usize, resendable: bool, expect: Expect, send: bool) -> Next {
        self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        self.run.add(length, resendable, expect);
        if send || self.session.account.is_run(self.run.requests()) {
            self.send_run();
        }
        Next::Read
    }

    /// A request that is no part of a run.
    fn answer_alone(&mut self, length: usize, route: Route) -> Next {
        self.send_run();
        let request = Request::new(&self.link.incoming[..length], self.scanner.spans());
        let next = answer(&self.services, &mut self.session, &mut self.link.replies, &request, route);
        self.link.incoming.advance(length);
        next
    }

    fn may_be_slice(&self) -> bool {
        self.transaction.is_none()
            && !self.session.is_held()
            && self.session.reply == ReplyMode::On
            && !self.link.replies.muted
    }

    /// MULTI with everything up to its EXEC, if it is all here and all of it goes upstream.
    fn take_multi(&mut self, length: usize, route: Route) -> Next {
        let from = self.run.length();
        match self.ahead.look(&self.services, &mut self.session, &self.link.incoming[from..], length) {
            Ahead::Whole(length, requests) => {
                self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, u64::from(requests) - 1);
                self.services.charge(&mut self.session, u64::from(requests) - 1);
                self.gather(length, false, Expect::Replies(requests), false)
            }
            Ahead::Unfinished => Next::ReadSoon,
            Ahead::Other => self.answer_alone(length, route),
        }
    }

    /// Puts a request back before what has not been taken yet.
    pub(super) fn again(&mut self, request: &OwnedRequest) {
        let rest = self.link.incoming.split();
        self.link.incoming.extend_from_slice(request.view().raw());
        self.link.incoming.unsplit(rest);
    }

    /// An inline request is answered, and forwarded, as the array it stands for.
    fn take_inline(&mut self, length: usize, words: &[Vec<u8>]) -> Next {
        self.skip(length);
        let request = OwnedRequest::from_words(words);
        if self.transaction.is_some() {
            return self.take_inline_transacting(request);
        }
        let route = self.services.paced(&mut self.session, &request.view());
        self.answer_inline(&request, route)
    }

    pub(super) fn answer_inline(&mut self, request: &OwnedRequest, route: Route) -> Next {
        self.begin_reply(&route, request.view().len());
        answer(&self.services, &mut self.session, &mut self.link.replies, &request.view(), route)
    }

    /// CLIENT REPLY: decides whether the next reply, to a request of so many words, is dropped. True when it is, and only that
    /// one.
    pub(super) fn begin_reply(&mut self, route: &Route, words: usize) -> bool {
        if self.session.reply == ReplyMode::On && !self.link.replies.muted {
            return false;
        }
        self.send_run();
        let mode = self.session.reply;
        if mode == ReplyMode::Skip {
            self.session.reply = ReplyMode::On;
        }
        let speaks = match route {
            // What is queued, or an error, switches nothing on.
            Route::Local(Local::ClientReply, spec) => spec.accepts(words) && !self.is_queueing(),
            Route::Local(Local::Reset, spec) => spec.accepts(words) && mode == ReplyMode::Off,
            _ => false,
        };
        self.link.replies.muted = mode != ReplyMode::On && !speaks;
        mode == ReplyMode::Skip
    }

    fn skip(&mut self, length: usize) {
        self.send_run();
        self.link.incoming.advance(length);
    }

    /// Sends the gathered run to the client's lane.
    pub(super) fn send_run(&mut self) {
        match self.run.take(&mut self.link.incoming) {
            None => {}
            Some((run, None)) => {
                let length = run.bytes.len();
                let run = self.session.on_its_lane(run);
                let ticket = self.services.lane(&mut self.session).submit(run);
                self.link.replies.run(ticket, length);
            }
            Some((run, Some(own))) => self.send_queued(run, &own),
        }
    }

    /// A framing fault: nothing after it can be told apart, so the client is closed, and only it.
    pub(super) fn refuse(&mut self, fault: &RequestFault) {
        self.send_run();
        self.services.metrics.protocol_errors.inc();
        if let Some(limit) = fault.limit() {
            self.services.metrics.limited(limit);
        }
        self.services.metrics.refusals.fault(&self.session.peer.addresses.0, fault);
        encode::error_bytes(self.link.replies.tail(), &fault.text());
        self.session.closing = true;
    }
}

/// Answers one request in its place.
fn answer(
    services: &Services,
    session: &mut Session,
    replies: &mut Replies,
    request: &Request<'_>,
    route: Route,
) -> Next {
    match services.answer(session, request, route, replies.tail()) {
        Flow::Answered => Next::Read,
        Flow::Exclusive(alone) => Next::Exclusive(alone),
        Flow::Upstream(ticket) => {
            replies.run(ticket, request.raw().len());
            Next::Read
        }
        Flow::Later(reply) => {
            replies.later(reply, request.raw().len());
            Next::Read
        }
    }
}
