//! A request with a very long argument is streamed: its bytes are passed on over a separate connection as they come, so
//! that it takes neither memory here nor time of other clients. If its keys are not known before those bytes, it is
//! gathered like any other.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::command::Request;
use crate::dispatch::Exclusive;
use crate::errors;
use crate::resp::passage::Passage;
use crate::resp::request::Awaited;
use crate::route::{Route, Unknown};
use crate::session::ReplyMode;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Batch, Expect, Onward, Pinned, Ticket};

/// An argument at least so long is not gathered.
pub(super) const LONG: usize = 1 << 20;
/// Most arguments of a request that is looked at before it is whole.
const MOST_ARGUMENTS: usize = 1 << 16;
/// How long, in milliseconds, a client's long requests are gathered after one for a slot that is on its way.
const GATHERS_FOR: u64 = 60_000;
/// Bytes that may wait for the upstream before more are read from the client.
const AHEAD: usize = 1 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The unfinished request at the front of the buffer, if it need not be gathered.
    pub(super) fn stream_next(&mut self) -> Option<Exclusive> {
        let awaited = self.scanner.awaited().filter(|awaited| awaited.length >= LONG)?;
        let is_plain = self.transaction.is_none()
            && !self.session.way.is_dedicated()
            && self.session.reply == ReplyMode::On
            && self.gathers_until.is_none_or(|until| until <= self.session.now);
        (is_plain && self.passes_through(awaited)).then_some(Exclusive::Stream)
    }

    /// True when the arguments that are here already say that the request passes through.
    fn passes_through(&mut self, awaited: Awaited) -> bool {
        self.send_batch();
        if awaited.index == 0 || awaited.arguments > MOST_ARGUMENTS {
            return false;
        }
        let mut spans = self.scanner.spans().to_vec();
        spans.resize(awaited.arguments, 0..0);
        let request = Request::new(&self.connection.incoming, &spans);
        let route = self.services.route_unsent(&mut self.session, &request);
        let passes = self.session.spec.is_some_and(|spec| spec.knows_keys_before(&request, awaited.index))
            && matches!(route, Route::PassThrough(_) | Route::Unknown(Unknown::Conduct));
        if passes {
            self.services.detach(&mut self.session, &request);
            // What has not come yet is shown as nothing.
            self.services.note_passed(&self.session, &request, &route);
            if self.session.is_shown {
                self.services.show_routed(&self.session, &request, &route);
            }
        }
        passes
    }

    pub(super) async fn stream(&mut self) -> Result<(), End> {
        self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        // While it waits for a connection more may be read.
        let have = self.connection.incoming.len();
        let passage = self.scanner.pass(have);
        let pinned = match self.pin_for_stream().await? {
            Ok(mut pinned) => {
                // What a command of which too little is known has left there ends with the connection.
                if self.session.spec.is_none_or(|spec| !spec.is_clean()) {
                    pinned.moved();
                }
                Some(pinned)
            }
            Err(text) => {
                self.error(&text);
                None
            }
        };
        let head = self.connection.incoming.split_to(have).freeze();
        let ticket = pinned.as_ref().map(|pinned| pinned.lane().submit(Batch::expecting(head, Expect::Replies(1))));
        self.pass_rest(passage, pinned.as_ref()).await?;
        // What was passed on is no whole request: its connection goes with it.
        if self.session.closing {
            return Ok(());
        }
        if let (Some(pinned), Some(ticket)) = (pinned, ticket) {
            self.end_stream(pinned, ticket).await?;
        }
        Ok(())
    }

    /// Its connection, or the error that the client is answered.
    async fn pin_for_stream(&mut self) -> Result<Result<Pinned, String>, End> {
        if let Some(text) = self.services.too_fast(&mut self.session) {
            return Ok(Err(text));
        }
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        tokio::select! {
            pinned = services.upstream.pin_at(self.session.to, &group, &account) => {
                Ok(pinned.map_err(|error| error.to_string()))
            }
            end = self.connection.left_within(AHEAD) => Err(end),
        }
    }

    /// Passes the rest on as it comes; without a connection it is dropped. What follows is a request again.
    async fn pass_rest(&mut self, mut passage: Passage, pinned: Option<&Pinned>) -> Result<(), End> {
        loop {
            let (used, done) = match passage.scan(&self.connection.incoming) {
                Ok(scanned) => scanned,
                Err(fault) => {
                    self.refuse(&fault);
                    return Ok(());
                }
            };
            let part = self.connection.incoming.split_to(used).freeze();
            let rest = self.connection.incoming.len();
            if let Some(pinned) = pinned {
                self.hand_on(pinned, part).await?;
            }
            if done {
                return Ok(());
            }
            // While a part was passed on, more may have been read.
            if self.connection.incoming.len() == rest {
                self.connection.read().await?;
            }
        }
    }

    async fn end_stream(&mut self, pinned: Pinned, ticket: Ticket) -> Result<(), End> {
        let reply = tokio::select! {
            reply = ticket.whole() => reply,
            end = self.connection.left() => return Err(end),
        };
        match reply {
            Ok(reply) => {
                match self.services.upstream.onward(&pinned, &reply) {
                    Some(onward) => self.came_too_late(&onward),
                    None => self.connection.replies.tail().extend_from_slice(&reply),
                }
                pinned.give_back();
            }
            Err(_) => self.error(errors::upstream::LOST),
        }
        Ok(())
    }

    /// The request that has been passed on is another node's, and is not here any more. The next one finds the node;
    /// where that would be the same one, because the slot is on its way, it is gathered first.
    fn came_too_late(&mut self, onward: &Onward) {
        self.services.upstream.learn(onward);
        if onward.is_unsettled() {
            self.gathers_until = Some(self.session.now.plus(GATHERS_FOR));
        }
        self.error(errors::upstream::PASSED_ON);
    }

    /// Passes a part on, and waits until the upstream has taken most of it.
    async fn hand_on(&mut self, pinned: &Pinned, part: Bytes) -> Result<(), End> {
        if part.is_empty() {
            return Ok(());
        }
        // Its reply is the first part's.
        let _unanswered = pinned.lane().submit(Batch::expecting(part, Expect::Nothing));
        tokio::select! {
            biased;
            () = pinned.drained(AHEAD) => Ok(()),
            end = self.connection.left_within(AHEAD) => Err(end),
        }
    }
}
