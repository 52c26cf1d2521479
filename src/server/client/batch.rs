//! The run of requests at the front of a client's buffer that go the same way, before it is sent as one slice.

use bytes::BytesMut;

use crate::upstream::{Asked, Batch, Expect, Lane};

#[derive(Debug, Default)]
pub(crate) struct Gathered {
    length: usize,
    asked: Vec<Asked>,
    /// The client's own connection, if it goes there for its transaction.
    own: Option<Lane>,
}

impl Gathered {
    /// Bytes of the buffer that the run covers.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Requests in it.
    pub(crate) fn requests(&self) -> usize {
        self.asked.len()
    }

    /// The next `length` bytes are a unit too.
    pub(crate) fn add(&mut self, length: usize, resendable: bool, expect: Expect) {
        self.length += length;
        self.asked.push(Asked { end: self.length, resendable, expect });
    }

    /// The next `length` bytes are a command of a transaction: all of its run have one fate, and are one unit.
    pub(crate) fn add_queued(&mut self, length: usize, lane: impl FnOnce() -> Lane) {
        self.length += length;
        self.own.get_or_insert_with(lane);
        match self.asked.last_mut() {
            Some(Asked { end, expect: Expect::Replies(replies), .. }) => (*end, *replies) = (self.length, *replies + 1),
            _ => self.asked.push(Asked { end: self.length, resendable: false, expect: Expect::Replies(1) }),
        }
    }

    /// Cuts the run out of the buffer, with the connection it is for if that is the client's own.
    pub(crate) fn take(&mut self, incoming: &mut BytesMut) -> Option<(Batch, Option<Lane>)> {
        if self.asked.is_empty() {
            return None;
        }
        let bytes = incoming.split_to(std::mem::take(&mut self.length)).freeze();
        Some((Batch { bytes, asked: std::mem::take(&mut self.asked), ..Batch::default() }, self.own.take()))
    }
}
