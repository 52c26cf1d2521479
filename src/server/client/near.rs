//! Reads of pass-through keys that are kept in memory, among a client's other requests: when one may be answered from
//! there, and the replies that are kept as they come from the upstream.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::replies::{Front, Owed, Replies};
use super::streaming::LONG;
use super::unsolicited::Stopped;
use crate::dispatch::{Filling, Services};
use crate::near::Near;
use crate::route::Route;
use crate::session::ReplyMode;
use crate::telemetry::metrics::UnderWay;
use crate::upstream::{Chunk, Ticket};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// `route`, unless the request behind the batch may be answered from memory.
    pub(super) fn unless_near(&self, length: usize, route: Route) -> Route {
        if self.session.reply != ReplyMode::On || self.connection.replies.muted || length >= LONG {
            return route;
        }
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        self.services.unless_near(&self.session, &request, route)
    }

    /// Goes over to what is kept from now on. What is under way was sent, or queued, before that kept anything, and
    /// ends what it may change nevertheless.
    pub(super) fn adopt_near(&mut self, before: &Services) {
        let near = &self.services.near;
        if near.as_ref().map(Arc::as_ptr) == before.near.as_ref().map(Arc::as_ptr) {
            return;
        }
        self.connection.replies.unsolicited.near.clone_from(near);
        if self.transaction.is_some() || self.session.writes.are_kept() {
            self.session.writes.begin(near.as_ref().map(Near::detach_everything));
        }
    }

    /// True when keys of the near cache wait for the answers to what may change them. Where nothing is owed, they wait
    /// for nothing any more.
    pub(super) fn must_end_writes(&mut self) -> bool {
        if self.transaction.is_none() && self.connection.replies.is_settled() {
            self.session.writes.end();
        }
        self.session.writes.are_kept() && self.transaction.is_none()
    }
}

impl Replies {
    /// A request of `length` bytes has been given to a lane, and its reply is kept in memory.
    pub(super) fn filling(&mut self, ticket: Ticket, length: usize, under_way: UnderWay, filling: Box<Filling>) {
        self.give(ticket, length, self.muted, |ticket, length| Owed::Filling(ticket, length, under_way, Some(filling)));
    }

    pub(super) fn poll_filling(&mut self, cx: &mut Context<'_>) -> Poll<Result<Front, Stopped>> {
        let Some(Owed::Filling(ticket, length, under_way, filling)) = self.owed.front_mut() else {
            return Poll::Ready(Ok(Front::GoesOn));
        };
        match ready!(ticket.poll_chunk(cx))? {
            Some(Chunk::Push(bytes)) => self.out.append(self.unsolicited.says(bytes)),
            Some(Chunk::Reply(bytes)) => {
                let bytes = filling.as_mut().map_or_else(Bytes::new, |filling| filling.came(bytes));
                if !bytes.is_empty() {
                    under_way.saw(&bytes);
                    self.has_begun = true;
                    self.out.append(bytes);
                }
            }
            None => {
                if let Some(metrics) = &self.metrics {
                    metrics.times.ended(under_way);
                }
                under_way.end_trace();
                self.under_way -= *length;
                self.was_bulky |= ticket.is_bulky();
                filling.take().into_iter().for_each(|filling| filling.end());
                return Poll::Ready(Ok(Front::HasEnded));
            }
        }
        Poll::Ready(Ok(Front::GoesOn))
    }
}
