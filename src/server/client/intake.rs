//! Takes requests from the client's buffer one after the other. Each is scanned and routed; then it joins the batch, is
//! answered at its position, or waits until it can run alone (`exclusive.rs`). Knows nothing of sockets.

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use super::multi_lookahead::Ahead;
use super::replies::Replies;
use super::streaming::LONG;
use super::{Client, Next};
use crate::command::{OwnedRequest, Request};
use crate::config::AuthMode;
use crate::dispatch::{Exclusive, Flow, Services};
use crate::resp::encode;
use crate::resp::request::{RequestFault, RequestScanner, Scan};
use crate::route::{Local, Route, Transaction};
use crate::session::{ReplyMode, Session, Written};
use crate::telemetry::clock::Moment;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::Expect;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Answers every whole request in the buffer, up to one that needs the client alone.
    pub(super) fn take_requests(&mut self) -> Next {
        self.session.begun = Moment::now();
        self.session.now = self.session.begun.tick();
        self.session.is_shown = self.services.is_watched();
        let is_settled = self.connection.replies.is_settled();
        if is_settled {
            self.session.written = Written::Nowhere;
            if self.transaction.is_none() {
                self.session.writes.end();
            }
            self.session.leave_slow_lane();
            if self.services.upstream.reads_from_replicas() {
                let at = self.connection.replies.settled.take().unwrap_or(self.session.now);
                self.session.recency.settles(at);
            }
        }
        if self.session.is_outdated(&self.services.upstream) {
            if !is_settled {
                return Next::Settled;
            }
            self.session.catch_up(&self.services.upstream);
        }
        if !is_settled && self.connection.replies.unsolicited.must_pause() {
            return Next::Settled;
        }
        self.is_ordinary = self.looks_ordinary();
        let mut next = Next::Read;
        while matches!(next, Next::Read) && !self.session.closing {
            if self.batch.length() == 0 && self.connection.is_full() {
                next = Next::Room;
                break;
            }
            match self.take_next() {
                Some(taken) => next = taken,
                None => break,
            }
        }
        self.send_batch();
        self.connection.replies.is_timed = self.session.recency.is_writing();
        self.services.note_answered(&self.session);
        self.session.peer.saw(self.session.now, self.session.command);
        self.session.peer.traffic.has_sent(self.session.tally.total);
        self.note_queued();
        next
    }

    /// Takes what stands behind the batch; `None` when no whole request does. Inlined where every request passes.
    #[inline(always)]
    fn take_next(&mut self) -> Option<Next> {
        let rest = &self.connection.incoming[self.batch.length()..];
        if rest.is_empty() {
            return None;
        }
        if !self.is_ordinary {
            let must_log_in = self.services.access.mode == AuthMode::Users;
            self.scanner.is_unauthenticated = must_log_in && self.session.user.is_none();
        }
        match self.scanner.scan(rest) {
            Ok(Scan::Complete(length)) if self.is_ordinary => return Some(self.take_ordinary(length)),
            Ok(Scan::Complete(length)) => return Some(self.take_request(length)),
            Ok(Scan::Incomplete) if self.is_too_long() => self.refuse(&RequestFault::TooLong),
            Ok(Scan::Incomplete) => return self.stream_next().map(Next::Exclusive),
            // By an empty line a replica that loads what it was sent says that it is still there.
            Ok(Scan::Empty(length)) if self.session.way.state().follows_by().is_some() => {
                return Some(self.gather(length, false, Expect::Nothing, false));
            }
            Ok(Scan::Empty(length)) => self.skip(length),
            Ok(Scan::Inline(length, words)) => return Some(self.take_inline(length, &words)),
            Err(fault) => self.refuse(&fault),
        }
        Some(Next::Read)
    }

    /// True when the unfinished request is longer than any may be that is gathered.
    fn is_too_long(&self) -> bool {
        self.connection.incoming.len() - self.batch.length() > self.connection.limits.request.0
    }

    pub(super) fn take_request(&mut self, length: usize) -> Next {
        if self.transaction.is_some() && self.is_transacting() {
            return self.take_transacting(length);
        }
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        if self.would_overtake(&request) {
            return Next::Settled;
        }
        let route = self.services.route(&mut self.session, &request);
        if self.services.upstream.reads_from_replicas() && self.must_wait_for_reads() {
            return Next::Settled;
        }
        if self.must_reach(&route) {
            return self.take_far(length);
        }
        // What is looked at again is paid for once.
        let is_paid = self.lookahead.is_under_way();
        let route = if is_paid { route } else { self.services.unless_too_fast(&mut self.session, route) };
        let route = self.unless_near(length, route);
        if self.session.way.is_caching()
            && let Some(next) = self.take_opted(length, &route)
        {
            return next;
        }
        if self.session.has_said_caching() {
            return self.take_said(length, route);
        }
        self.take_routed(length, route)
    }

    /// A write must not be seen by reads before it: those that have been sent to replicas are waited for, and those
    /// that have not been sent go where the write goes.
    fn must_wait_for_reads(&mut self) -> bool {
        if !self.session.recency.is_write() {
            return false;
        }
        self.batch.at_primary();
        self.session.recency.is_reading() && !self.connection.replies.is_settled()
    }

    /// A request that is no part of a transaction. Inlined where every request passes: a route is large to hand on.
    #[inline(always)]
    pub(super) fn take_routed(&mut self, length: usize, route: Route) -> Next {
        if matches!(route, Route::PassThrough(_) | Route::Near(_)) {
            self.sample_passed(length);
        }
        if self.session.is_shown {
            self.show_taken(length, &route);
        }
        let is_skipped = self.begin_reply(&route, self.scanner.spans().len());
        if self.services.policy.is_followed && matches!(route, Route::PassThrough(_) | Route::Unanswered) {
            self.follow_passed(length, &route);
        }
        match route {
            // What is long to send, or more than the upstream takes, goes where nobody waits behind it.
            Route::PassThrough(_) if length >= LONG && !self.session.way.is_dedicated() => self.take_long(length),
            Route::PassThrough(resendable) => self.gather(length, resendable, Expect::Replies(1), is_skipped),
            Route::Unanswered => self.gather(length, false, Expect::Nothing, is_skipped),
            Route::Transaction(Transaction::Multi, _) if self.may_look_ahead() => self.take_multi(length, route),
            route => self.answer_in_place(length, route),
        }
    }

    /// Shows the request behind the batch to those who monitor.
    #[cold]
    fn show_taken(&self, length: usize, route: &Route) {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        self.services.show_routed(&self.session, &request, route);
    }

    /// A long request that had to be gathered.
    fn take_long(&mut self, length: usize) -> Next {
        self.send_batch();
        let request = OwnedRequest::copy(&Request::new(&self.connection.incoming[..length], self.scanner.spans()));
        self.connection.incoming.advance(length);
        self.session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        Next::Exclusive(Exclusive::Long(request))
    }

    /// One more unit of the batch.
    pub(super) fn gather(&mut self, length: usize, resendable: bool, expect: Expect, send: bool) -> Next {
        self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        self.services.timed.passes(self.session.spec);
        self.batch.add(length, resendable, expect, self.session.to);
        if let Some(detached) = self.session.writes.take() {
            self.batch.may_change(detached);
        }
        if !resendable {
            self.session.written.note(self.session.to);
        }
        if send || self.session.account.is_batch(self.batch.units()) {
            self.send_batch();
        }
        Next::Read
    }

    /// A request that is no part of the batch: it is answered now, or needs the client alone.
    pub(super) fn answer_in_place(&mut self, length: usize, route: Route) -> Next {
        self.send_batch();
        let request = Request::new(&self.connection.incoming[..length], self.scanner.spans());
        let next = answer(&self.services, &mut self.session, &mut self.connection.replies, &request, route);
        self.connection.incoming.advance(length);
        self.note_under_way();
        next
    }

    fn may_look_ahead(&self) -> bool {
        self.transaction.is_none()
            && !self.session.way.is_dedicated()
            && self.session.reply == ReplyMode::On
            && !self.connection.replies.muted
            && self.session.discarded.is_none()
            && !self.services.policy.audits
    }

    /// MULTI with everything up to its EXEC, if it is all here and all of it goes upstream.
    fn take_multi(&mut self, length: usize, route: Route) -> Next {
        let from = self.batch.length();
        match self.lookahead.look(&self.services, &mut self.session, &self.connection.incoming[from..], length) {
            Ahead::Whole(length, requests, to) => {
                self.session.to = to;
                if self.session.is_shown && self.services.upstream.is_cluster() {
                    self.show_all(&self.connection.incoming[from..from + length]);
                }
                self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, u64::from(requests) - 1);
                self.services.charge(&mut self.session, u64::from(requests) - 1);
                if self.services.samples_passed() {
                    self.batch.sampled.push("exec");
                }
                self.gather(length, false, Expect::Replies(requests), false)
            }
            Ahead::Unfinished => Next::ReadSoon,
            Ahead::Other => self.answer_in_place(length, route),
        }
    }

    /// Shows every request of `bytes` to those who monitor.
    #[cold]
    fn show_all(&self, mut bytes: &[u8]) {
        let (mut scanner, limits) = (RequestScanner::default(), &self.connection.limits);
        scanner.set_limits(limits.request_argument.0, limits.request_arguments);
        while let Ok(Scan::Complete(length)) = scanner.scan(bytes) {
            self.services.show(&self.session, &Request::new(&bytes[..length], scanner.spans()));
            bytes = &bytes[length..];
        }
    }

    /// Puts a request back before what has not been taken yet.
    pub(super) fn put_back(&mut self, request: &OwnedRequest) {
        let rest = self.connection.incoming.split();
        self.connection.incoming.extend_from_slice(request.view().raw());
        self.connection.incoming.unsplit(rest);
    }

    /// An inline request is answered, and forwarded, as the array it stands for.
    fn take_inline(&mut self, length: usize, words: &[Vec<u8>]) -> Next {
        self.batch.at_primary();
        if self.session.recency.is_reading() && !self.connection.replies.is_settled() {
            return Next::Settled;
        }
        let request = OwnedRequest::from_words(words);
        if !self.is_transacting() && self.would_overtake(&request.view()) {
            return Next::Settled;
        }
        self.skip(length);
        if self.transaction.is_some() {
            return self.take_inline_transacting(request);
        }
        let route = self.services.route_at_primary(&mut self.session, &request.view());
        let route = self.services.unless_too_fast(&mut self.session, route);
        self.answer_inline(&request, route)
    }

    pub(super) fn answer_inline(&mut self, request: &OwnedRequest, route: Route) -> Next {
        let is_multi = request.view().is(0, "MULTI");
        let goes_on = matches!(route, Route::Held(_)) || request.view().is(0, "CLIENT");
        if !goes_on && !is_multi {
            self.forget_caching(true);
        }
        let is_unseen = !matches!(route, Route::PassThrough(_));
        self.begin_reply(&route, request.view().len());
        if self.session.is_shown {
            self.services.show_routed(&self.session, &request.view(), &route);
        }
        let (services, replies) = (&self.services, &mut self.connection.replies);
        let next = answer(services, &mut self.session, replies, &request.view(), route);
        if !(goes_on || is_multi && self.begins(&next)) {
            self.ends_caching(is_unseen);
        }
        next
    }

    /// CLIENT REPLY: decides whether the next reply, to a request of so many words, is dropped. True when it is, and
    /// only that one.
    pub(super) fn begin_reply(&mut self, route: &Route, words: usize) -> bool {
        if self.session.reply == ReplyMode::On && !self.connection.replies.muted || matches!(route, Route::Held(_)) {
            return false;
        }
        self.send_batch();
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
        self.connection.replies.muted = mode != ReplyMode::On && !speaks;
        mode == ReplyMode::Skip
    }

    fn skip(&mut self, length: usize) {
        self.send_batch();
        self.connection.incoming.advance(length);
    }

    /// Sends the gathered batch to the client's lane, if there is one: most requests that are answered here find none.
    #[inline]
    pub(super) fn send_batch(&mut self) {
        if self.batch.units() > 0 {
            self.send_gathered();
        }
    }

    fn send_gathered(&mut self) {
        if self.batch.reads() {
            self.session.recency.reads();
        }
        match self.batch.take(&mut self.connection.incoming) {
            None => {}
            Some((batch, None)) => {
                let length = batch.bytes.len();
                if self.services.policy.traces {
                    self.trace_batch(batch.asked.len());
                }
                let ticket = self.session.submit(&self.services.upstream, batch);
                let under_way = self.services.timed.passed.take().since(self.session.begun);
                let under_way = under_way.traced(self.session.account.trace.take());
                self.connection.replies.timed_batch(ticket, length, under_way);
            }
            Some((batch, Some(own))) => self.send_queued(batch, &own),
        }
    }

    /// A framing fault: where the next request begins is not known, so the client is closed, and only it.
    pub(super) fn refuse(&mut self, fault: &RequestFault) {
        self.send_batch();
        self.services.metrics.clients.protocol_errors.inc();
        if let Some(limit) = fault.limit() {
            self.services.metrics.clients.limited(limit);
        }
        self.services.metrics.clients.refusals.fault(&self.session.peer.addresses.0, fault);
        encode::error_bytes(self.connection.replies.tail(), &fault.text());
        self.session.closing = true;
    }
}

/// Answers one request at its position.
pub(super) fn answer(
    services: &Services,
    session: &mut Session,
    replies: &mut Replies,
    request: &Request<'_>,
    route: Route,
) -> Next {
    let timed = &services.timed;
    timed.answers(session.spec, &route);
    // What the client sends behind an order is done as the order says.
    let behind = if matches!(route, Route::Hearthside) { Next::Settled } else { Next::Read };
    let flow = services.answer(session, request, route, replies.tail());
    if matches!(flow, Flow::Answered) {
        timed.answered.add(1);
        return Next::Read;
    }
    if let Flow::Exclusive(exclusive) = flow {
        return Next::Exclusive(exclusive);
    }
    let under_way = timed.answered.one().since(session.begun).traced(session.account.trace.take());
    match flow {
        Flow::Answered | Flow::Exclusive(_) => Next::Read,
        Flow::Upstream(ticket) => {
            replies.timed_batch(ticket, request.raw().len(), under_way);
            Next::Read
        }
        Flow::Filling(ticket, filling) => {
            replies.filling(ticket, request.raw().len(), under_way, filling);
            Next::Read
        }
        Flow::Later(reply) => {
            replies.later(reply, request.raw().len(), under_way);
            behind
        }
    }
}
