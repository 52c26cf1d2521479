//! THE LOOP: one client, from its first byte to its last.
//!
//! ```text
//! read -> scan -> route -+-> pass-through: gathered into a run, one slice to the client's lane --+
//!                        +-> owned, local: answered in place, or later when a load ends ---------+-> replies -> write
//!                        +-> alone: everything owed is written, then the client has its own way -+
//! ```

use std::rc::Rc;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::{End, Link};
use super::replies::Replies;
use super::run::Gathered;
use crate::command::{OwnedRequest, Request};
use crate::dispatch::{Alone, Context, Flow, Session};
use crate::resp::encode;
use crate::resp::request::{RequestFault, RequestScanner, Scan};
use crate::route::{Local, Route};
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::transaction::Transaction;

pub(super) struct Client<S> {
    pub(super) link: Link<S>,
    pub(super) session: Session,
    pub(super) context: Rc<Context>,
    pub(super) scanner: RequestScanner,
    pub(super) transaction: Option<Transaction>,
    run: Gathered,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(link: Link<S>, session: Session, context: Rc<Context>, max_argument: usize) -> Self {
        Self {
            link,
            session,
            context,
            scanner: RequestScanner::new(max_argument),
            transaction: None,
            run: Gathered::default(),
        }
    }

    /// Serves the client until it leaves, and closes.
    pub(super) async fn serve(mut self) {
        let end = self.converse().await;
        self.session.tally.flush(&self.context.metrics.commands);
        if let Err(End::Left | End::Draining) = end {
            // What it asked before it left is still answered: it may only have closed its sending side.
            let _ = self.link.settle().await;
        }
        if let Err(End::Socket(error)) = end {
            tracing::debug!(client = self.session.id, %error, "a client's socket failed");
        }
        self.link.close().await;
    }

    async fn converse(&mut self) -> Result<(), End> {
        self.link.enroll().await;
        loop {
            let alone = self.take_requests();
            self.session.tally.flush(&self.context.metrics.commands);
            if let Some(alone) = alone {
                self.link.settle().await?;
                self.alone(alone).await?;
            } else if self.session.closing {
                return self.link.settle().await;
            } else {
                self.link.exchange().await?;
            }
        }
    }

    /// Answers every whole request in the buffer, up to one that needs the client alone.
    fn take_requests(&mut self) -> Option<Alone> {
        self.session.now = now_ms();
        let mut alone = None;
        while alone.is_none() && !self.session.closing {
            match self.scanner.scan(&self.link.incoming[self.run.length()..]) {
                Ok(Scan::Incomplete) => break,
                Ok(Scan::Complete(length)) => alone = self.take_request(length),
                Ok(Scan::Empty(length)) => self.skip(length),
                Ok(Scan::Inline(length, words)) => alone = self.take_inline(length, &words),
                Err(fault) => self.refuse(&fault),
            }
        }
        self.send_run();
        alone
    }

    fn take_request(&mut self, length: usize) -> Option<Alone> {
        let at = self.run.length();
        let request = Request::new(&self.link.incoming[at..at + length], self.scanner.spans());
        let route = self.context.router.route(&request);
        let in_transaction = self.belongs_to_transaction(&route);
        if let (Route::PassThrough(resendable), false) = (&route, in_transaction) {
            self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
            self.run.add(length, *resendable);
            return None;
        }
        self.send_run();
        let request = Request::new(&self.link.incoming[..length], self.scanner.spans());
        let route = if in_transaction { None } else { Some(route) };
        let alone = answer(&self.context, &mut self.session, &mut self.link.replies, &request, route);
        self.link.incoming.advance(length);
        alone
    }

    /// An inline request is answered, and forwarded, as the array it stands for.
    fn take_inline(&mut self, length: usize, words: &[Vec<u8>]) -> Option<Alone> {
        self.skip(length);
        let request = OwnedRequest::from_words(words);
        let route = self.context.router.route(&request.view());
        let route = if self.belongs_to_transaction(&route) { None } else { Some(route) };
        answer(&self.context, &mut self.session, &mut self.link.replies, &request.view(), route)
    }

    /// Inside MULTI every command but QUIT and RESET; while only watching, those that end it or move the client.
    fn belongs_to_transaction(&mut self, route: &Route) -> bool {
        let Some(transaction) = &self.transaction else { return false };
        match route {
            Route::Local(Local::Quit | Local::Reset, _) => {
                self.transaction = None;
                false
            }
            Route::Transaction(..) | Route::Local(Local::Select | Local::Hello, _) => true,
            _ => transaction.takes_all(),
        }
    }

    fn skip(&mut self, length: usize) {
        self.send_run();
        self.link.incoming.advance(length);
    }

    /// Sends the gathered run to the client's lane.
    fn send_run(&mut self) {
        if let Some(run) = self.run.take(&mut self.link.incoming) {
            let ticket = self.context.lane(&mut self.session).submit(run);
            self.link.replies.run(ticket);
        }
    }

    /// A framing fault: nothing after it can be told apart, so the client is closed, and only it.
    pub(super) fn refuse(&mut self, fault: &RequestFault) {
        self.send_run();
        self.context.metrics.protocol_errors.inc();
        tracing::debug!(client = self.session.id, %fault, "a client sent what is no request and is closed");
        encode::error(self.link.replies.tail(), &format!("ERR Protocol error: {fault}"));
        self.session.closing = true;
    }
}

/// Answers one request in its place; without a route it belongs to the client's transaction.
fn answer(
    context: &Context,
    session: &mut Session,
    replies: &mut Replies,
    request: &Request<'_>,
    route: Option<Route>,
) -> Option<Alone> {
    let Some(route) = route else { return Some(Alone::Transaction(OwnedRequest::copy(request))) };
    match context.answer(session, request, route, replies.tail()) {
        Flow::Answered => None,
        Flow::Alone(alone) => Some(alone),
        Flow::Later(reply) => {
            replies.later(reply);
            None
        }
    }
}
