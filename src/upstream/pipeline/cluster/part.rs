//! What one node is given of a batch, and its replies as they come.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::upstream::endpoint::Endpoint;
use crate::upstream::pipeline::account::Kept;
use crate::upstream::pipeline::batch::Asked;
use crate::upstream::pipeline::lane_ticket::{Broken, Chunk, LaneTicket};

/// What one node was given of the batch, and what has come of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) ticket: LaneTicket,
    pub(super) server: Arc<Endpoint>,
    /// Its requests.
    pub(super) bytes: Bytes,
    pub(super) asked: Vec<Asked>,
    /// How many have been answered, and where the front one begins.
    answered: usize,
    pub(super) start: usize,
    /// Replies that have come and were not taken.
    pub(super) come: Bytes,
    kept: Kept,
}

impl Part {
    pub(super) fn new(ticket: LaneTicket, server: Arc<Endpoint>, bytes: Bytes, asked: Vec<Asked>) -> Self {
        let kept = Kept::new(ticket.account());
        Self { ticket, server, bytes, asked, answered: 0, start: 0, come: Bytes::new(), kept }
    }

    /// What the front request expects.
    pub(super) fn front(&self) -> Option<&Asked> {
        self.asked.get(self.answered)
    }

    /// The front request has been answered.
    pub(super) fn pass(&mut self) {
        if let Some(asked) = self.asked.get(self.answered) {
            (self.start, self.answered) = (asked.end, self.answered + 1);
        }
    }

    /// Ready when some of its replies have come; with a push message if one came before them.
    pub(super) fn poll_come(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.come.is_empty() {
            match ready!(self.ticket.poll_chunk(cx))? {
                None => return Poll::Ready(Err(Broken)),
                Some(Chunk::Push(push)) => return Poll::Ready(Ok(Some(push))),
                Some(Chunk::Reply(bytes)) => {
                    self.kept.are(bytes.len());
                    self.come = bytes;
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Takes what has come in front.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let taken = self.come.split_to(length);
        self.settle();
        taken
    }

    pub(super) fn settle(&mut self) {
        if self.come.is_empty() {
            self.come = Bytes::new();
            self.kept.are(0);
        }
    }
}
