//! The client's side of a transaction: its commands are entries in the replies owed like all others, sent over the
//! connection that is lent to the client. The client is served alone only where something must be awaited first
//! (decision 0019).

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::End;
use super::{Client, Next};
use crate::command::{OwnedRequest, Request};
use crate::dispatch::{Exclusive, Services};
use crate::route::{Local, Route};
use crate::session::{Beside, Session};
use crate::transaction::{Desk, QUEUE_LOSS, Taken, Transaction, Wait};
use crate::upstream::{Batch, Expect, Lane, Pinned};

/// How a request stands to the client's transaction.
enum Stands {
    /// It is one of its commands.
    Within,
    /// The client only watches, and sends it as usual.
    Beside,
    /// It is one of its commands when its keys are settled.
    Settles,
    /// The transaction is over with it.
    Ends,
}

impl Stands {
    /// RESET with arguments is an error, as any command's, and ends nothing.
    fn of(request: &Request<'_>, route: &Route, takes_all: bool) -> Self {
        match route {
            Route::Local(Local::Quit | Local::Reset, spec) if spec.accepts(request.len()) => Self::Ends,
            Route::Attack => Self::Ends,
            Route::Held(_) => Self::Beside,
            Route::Fallback(_) if takes_all => Self::Settles,
            Route::Fallback(_) => Self::Beside,
            Route::Transaction(..) => Self::Within,
            _ if takes_all => Self::Within,
            _ => Self::Beside,
        }
    }
}

/// Counts a request that is taken now; inside a MULTI that was let in none is refused for coming too fast.
fn paid(services: &Services, session: &mut Session, takes_all: bool, route: Route, stands: Stands) -> (Route, Stands) {
    if takes_all {
        services.charge(session, 1);
        return (services.unless_discarded(session, route), stands);
    }
    match services.unless_too_fast(session, route) {
        refused @ Route::Refused(_) => (refused, Stands::Beside),
        route => (route, stands),
    }
}

/// The client is served alone until the keys of a request are settled.
fn settles(request: OwnedRequest, route: Route) -> Next {
    let route = if let Route::Fallback(route) = route { route } else { Box::new(route) };
    Next::Exclusive(Exclusive::Fallback(request, route))
}

/// True for a request about which the upstream must be asked before it is queued.
const fn asks_first(route: &Route) -> bool {
    matches!(route, Route::Unknown(unknown) if unknown.is_asked_first())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The request of `length` bytes behind the batch, of a client that has a transaction.
    pub(super) fn take_transacting(&mut self, length: usize) -> Next {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        let (route, takes_all) = (self.services.route_at_primary(&mut self.session, &request), self.is_queueing());
        let stands = Stands::of(&request, &route, takes_all);
        if self.must_settle(&stands) {
            return Next::Settled;
        }
        let (route, stands) = paid(&self.services, &mut self.session, takes_all, route, stands);
        match stands {
            Stands::Within => {
                let is_skipped = self.begin_reply(&route, self.scanner.spans().len());
                let next = self.take_within(length, route, is_skipped);
                self.taken_within(next)
            }
            Stands::Beside => self.take_beside(length, route),
            Stands::Settles => {
                self.send_batch();
                let copy = OwnedRequest::copy(&Request::new(&self.connection.incoming[..length], self.scanner.spans()));
                self.connection.incoming.advance(length);
                settles(copy, route)
            }
            Stands::Ends => {
                self.send_batch();
                self.forget_transaction();
                self.take_routed(length, route)
            }
        }
    }

    /// The same for an inline request, which has been taken out of the buffer.
    pub(super) fn take_inline_transacting(&mut self, request: OwnedRequest) -> Next {
        let (route, takes_all) =
            (self.services.route_at_primary(&mut self.session, &request.view()), self.is_queueing());
        let stands = Stands::of(&request.view(), &route, takes_all);
        if self.must_settle(&stands) {
            self.put_back(&request);
            return Next::Settled;
        }
        let (route, stands) = paid(&self.services, &mut self.session, takes_all, route, stands);
        match stands {
            Stands::Ends => {
                self.forget_transaction();
                self.answer_inline(&request, route)
            }
            Stands::Beside => self.answer_inline(&request, route),
            Stands::Settles => settles(request, route),
            Stands::Within => {
                self.begin_reply(&route, request.view().len());
                if asks_first(&route) || self.services.upstream.is_cluster() {
                    return Next::Exclusive(Exclusive::Transaction(request, route));
                }
                match self.take_one(&request, route) {
                    (Taken::Waits(_, route), _) => Next::Exclusive(Exclusive::Transaction(request, route)),
                    (taken, out) => {
                        let next = self.carry_out(taken, &request, out);
                        self.taken_within(next)
                    }
                }
            }
        }
    }

    /// A client that watches has two roads, and what it sends over one must not overtake what is under way on the
    /// other.
    fn must_settle(&mut self, stands: &Stands) -> bool {
        let own = match stands {
            Stands::Within => true,
            Stands::Beside | Stands::Settles => false,
            Stands::Ends => return false,
        };
        let is_settled = self.connection.replies.is_settled() && self.batch.length() == 0;
        if is_settled {
            self.is_on_own = own;
        }
        self.is_on_own != own
    }

    /// A command of the transaction: joins the batch for the client's own connection, if it goes there as it is.
    fn take_within(&mut self, length: usize, route: Route, is_skipped: bool) -> Next {
        let waits_for_each = asks_first(&route) || self.services.upstream.is_cluster();
        if matches!(route, Route::Transaction(..)) || waits_for_each {
            self.send_batch();
        }
        if waits_for_each {
            let copy = OwnedRequest::copy(&Request::new(&self.connection.incoming[..length], self.scanner.spans()));
            self.connection.incoming.advance(length);
            return Next::Exclusive(Exclusive::Transaction(copy, route));
        }
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        let mut out = BytesMut::new();
        let mut desk = Desk::new(&self.services, &mut self.session, &mut out);
        let taken = self.transaction.get_or_insert_default().take(&mut desk, &request, route);
        if let (Taken::Passes, Some(own)) = (&taken, self.session.way.transacting()) {
            self.batch.add_queued(length, own.lane());
            if is_skipped {
                self.send_batch();
            }
            return Next::Read;
        }
        self.send_batch();
        let copy = OwnedRequest::copy(&Request::new(&self.connection.incoming[..length], self.scanner.spans()));
        self.connection.incoming.advance(length);
        match taken {
            Taken::Waits(_, route) => Next::Exclusive(Exclusive::Transaction(copy, route)),
            taken => self.carry_out(taken, &copy, out),
        }
    }

    /// A command that is not in the buffer any more.
    fn take_one(&mut self, request: &OwnedRequest, route: Route) -> (Taken, BytesMut) {
        let mut out = BytesMut::new();
        let mut desk = Desk::new(&self.services, &mut self.session, &mut out);
        let taken = self.transaction.get_or_insert_default().take(&mut desk, &request.view(), route);
        (taken, out)
    }

    /// Sends what is to be sent, and answers what has been answered.
    fn carry_out(&mut self, taken: Taken, request: &OwnedRequest, out: BytesMut) -> Next {
        let mut next = Next::Read;
        match taken {
            Taken::Answered | Taken::Waits(..) => {}
            Taken::Passes => self.send_own(Batch::queued(request.bytes(), 1, QUEUE_LOSS)),
            Taken::Sends(batch) => self.send_own(batch),
            Taken::Last(batch) => {
                self.services.trace_exec(&self.session);
                self.send_own(batch);
                self.connection.replies.last_is_traced(self.session.account.trace.take());
                next = Next::Exclusive(Exclusive::Ended);
            }
            Taken::Ended(reply) => {
                self.connection.replies.put_all(reply);
                next = Next::Exclusive(Exclusive::Ended);
            }
            Taken::Ends(batch) => {
                if let (Some(batch), Some(own)) = (batch, self.session.way.transacting()) {
                    let length = batch.bytes.len();
                    self.connection.replies.silent(own.lane().submit(batch), length);
                }
                next = Next::Exclusive(Exclusive::Ended);
            }
        }
        if !out.is_empty() {
            self.connection.replies.put(out);
        }
        next
    }

    /// Sends a unit over the client's own connection.
    fn send_own(&mut self, batch: Batch) {
        let Some(own) = self.session.way.transacting() else { return self.error(QUEUE_LOSS.unsent) };
        let (length, has_one) = (batch.bytes.len(), batch.asked.iter().all(|asked| asked.expect == Expect::Replies(1)));
        let ticket = own.lane().submit(batch);
        // The replies to WATCH and EXEC say nothing about what is queued.
        if has_one && !self.is_queueing() {
            self.connection.replies.watch(ticket, length);
        } else {
            self.connection.replies.queued(ticket, length, !has_one);
        }
    }

    /// Sends the batch that was gathered for the client's own connection.
    pub(super) fn send_queued(&mut self, mut batch: Batch, own: &Lane) {
        let length = batch.bytes.len();
        (batch.loss, batch.is_timed) = (Some(QUEUE_LOSS), true);
        let ticket = own.submit(batch);
        if self.is_queueing() {
            self.connection.replies.queued(ticket, length, false);
        } else {
            self.connection.replies.watch(ticket, length);
        }
    }

    /// It is inside a MULTI.
    pub(super) fn is_queueing(&self) -> bool {
        self.transaction.as_ref().is_some_and(Transaction::takes_all)
    }

    /// A command that something must be awaited for. Everything before it has been answered.
    pub(super) async fn in_transaction(&mut self, request: &OwnedRequest, mut route: Route) -> Result<(), End> {
        if self.transaction.is_none() {
            let replies = &mut self.connection.replies;
            (replies.is_refused, replies.is_unclean, replies.has_watched) = (false, false, false);
        }
        self.is_on_own = true;
        if let Route::Unknown(unknown) = route {
            route = self.explained(unknown, request).await?;
        }
        if let Route::Held(held) = route {
            return self.hold(held, request).await;
        }
        if self.session.is_shown && self.services.upstream.is_cluster() && !matches!(route, Route::Refused(_)) {
            self.services.show(&self.session, &request.view());
        }
        let (taken, out) = loop {
            match self.take_one(request, route) {
                (Taken::Waits(Wait::Connection, again), _) => {
                    self.connect().await?;
                    route = again;
                }
                (Taken::Waits(wait, _), _) => break self.decide(wait, request).await?,
                taken => break taken,
            }
        };
        let next = match taken {
            Taken::Passes if self.services.upstream.is_cluster() => {
                self.queue_at_node(&Batch::queued(request.bytes(), 1, QUEUE_LOSS)).await?
            }
            Taken::Sends(batch) if self.services.upstream.is_cluster() => self.queue_at_node(&batch).await?,
            taken => self.carry_out(taken, request, out),
        };
        let next = self.taken_within(next);
        // Before its reply can be read.
        self.note_queued();
        match next {
            // What it sent last must be answered before the connection is given back.
            Next::Exclusive(_) => self.connection.answered().await,
            _ => Ok(()),
        }
    }

    /// In a cluster a node may have to be left for another one before the client is answered.
    async fn queue_at_node(&mut self, batch: &Batch) -> Result<Next, End> {
        let (mut out, mut pushes) = (BytesMut::new(), BytesMut::new());
        let transaction = self.transaction.get_or_insert_default();
        let mut desk = Desk {
            pushes: self.connection.replies.muted.then_some(&mut pushes),
            ..Desk::new(&self.services, &mut self.session, &mut out)
        };
        self.connection.meanwhile(transaction.send(&mut desk, batch)).await?;
        self.connection.replies.has_watched |= out.starts_with(b"+OK");
        self.connection.replies.loud().put_slice(&pushes);
        self.connection.replies.put(out);
        Ok(Next::Read)
    }

    /// Has a connection lent, or tells the transaction why there is none.
    async fn connect(&mut self) -> Result<(), End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        match self.connection.meanwhile(services.upstream.pin_at(self.session.to, &group, &account)).await? {
            Ok(pinned) => self.session.way.lend(pinned),
            Err(error) => self.transaction.get_or_insert_default().cannot_connect(error.to_string()),
        }
        Ok(())
    }

    /// Goes over to what a reload has brought while EXEC waited, unless the upstream has been asked to run it. The old
    /// cache must not be written any more: the new one waits only for writes that queued before the reload.
    fn adopt_before_exec(&mut self) {
        let is_asked = self.transaction.as_ref().is_some_and(Transaction::is_asked);
        if let Some(latest) = self.services.latest().filter(|_| !is_asked) {
            self.adopt(latest);
        }
    }

    /// Does what only one who waits can do.
    async fn decide(&mut self, wait: Wait, request: &OwnedRequest) -> Result<(Taken, BytesMut), End> {
        if wait == Wait::Decision {
            // Nothing is awaited between this and the store's part, whose writes queue at once.
            self.adopt_before_exec();
        }
        let (mut out, mut pushes) = (BytesMut::new(), BytesMut::new());
        let transaction = self.transaction.get_or_insert_default();
        let mut desk = Desk {
            pushes: self.connection.replies.muted.then_some(&mut pushes),
            is_refused: self.connection.replies.is_refused,
            ..Desk::new(&self.services, &mut self.session, &mut out)
        };
        let taken = if wait == Wait::Records {
            self.connection.meanwhile(transaction.watch_records(&mut desk, request)).await?
        } else {
            match self.connection.meanwhile(transaction.prepare(&mut desk)).await? {
                Some(taken) => taken,
                // Both parts or none: a transaction is completed even when its client is killed now.
                None if transaction.is_prepared() => transaction.run_all(&mut desk).await,
                None => self.connection.meanwhile(transaction.run_all(&mut desk)).await?,
            }
        };
        self.connection.replies.loud().put_slice(&pushes);
        Ok((taken, out))
    }

    /// Forgets a transaction that is over.
    pub(super) fn note_transaction(&mut self) {
        if self.transaction.as_ref().is_some_and(Transaction::is_over) {
            self.forget_transaction();
        }
        self.note_queued();
    }

    /// Forgets a client's transaction in which each WATCH was answered with an error, and nothing else has happened: it
    /// watches nothing, as in Redis, and whatever was the matter with its connection is no concern of the next one.
    /// True if it has a transaction still.
    pub(super) fn is_transacting(&mut self) -> bool {
        let only_watches = self.transaction.as_ref().is_some_and(Transaction::only_watches_upstream);
        let (replies, is_sent) = (&self.connection.replies, self.batch.length() == 0);
        if only_watches && is_sent && replies.is_settled() && !replies.has_watched {
            self.forget_transaction();
            self.settle_way();
        }
        self.transaction.is_some()
    }

    fn forget_transaction(&mut self) {
        if std::mem::take(&mut self.connection.replies.is_unclean) {
            // A connection on which the upstream did not begin or end a transaction as asked is not lent again.
            self.session.way.transacting_mut().into_iter().for_each(Pinned::moved);
        }
        self.session.way.beside_mut().into_iter().for_each(Beside::ends_transaction);
        self.ends_caching(true);
        self.transaction = None;
        (self.connection.replies.is_refused, self.connection.replies.has_watched) = (false, false);
        self.connection.kept = 0;
        self.session.peer.update(|state| (state.queued, state.watching) = (None, 0));
    }

    /// Tells the others what is queued.
    pub(super) fn note_queued(&mut self) {
        if let Some(transaction) = &self.transaction {
            self.connection.kept = transaction.kept();
            let (queued, watching) = (transaction.queued(), transaction.watching_keys());
            self.session.peer.update(|state| (state.queued, state.watching) = (queued, watching));
        }
    }
}
