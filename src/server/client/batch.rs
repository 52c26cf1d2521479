//! Gathers the requests at the front of a client's buffer that go the same way, so that they are sent as one slice.

use std::ops::Range;
use std::rc::Rc;

use bytes::BytesMut;

use crate::command::Request;
use crate::near::Detached;
use crate::session::joined;
use crate::upstream::{Asked, Batch, Expect, Lane, To};

#[derive(Debug, Default)]
pub(super) struct Gathered {
    length: usize,
    asked: Vec<Asked>,
    /// Units of the last batch: the next one may be as long.
    usual: usize,
    /// Replicas may answer some of them.
    reads: bool,
    /// Keys of the near cache that it may change.
    detached: Option<Box<Detached>>,
    /// The client's own connection, if they go there for its transaction.
    own: Option<Lane>,
    /// The commands in it that are traced in any case.
    pub(super) sampled: Vec<&'static str>,
}

impl Gathered {
    /// Bytes of the buffer that the batch covers.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// The request of `length` bytes that stands behind it in the buffer. Inlined where every request passes.
    #[inline(always)]
    pub(super) fn behind<'r>(&self, incoming: &'r [u8], spans: &'r [Range<usize>], length: usize) -> Request<'r> {
        Request::new(&incoming[self.length..self.length + length], spans)
    }

    /// Units in it.
    pub(super) fn units(&self) -> usize {
        self.asked.len()
    }

    /// The next `length` bytes are a unit too. Inlined where every request passes.
    #[inline]
    pub(super) fn add(&mut self, length: usize, resendable: bool, expect: Expect, to: To) {
        if self.asked.is_empty() {
            self.asked.reserve_exact(self.usual.max(1));
        }
        self.length += length;
        self.reads |= matches!(to, To::Reader(_));
        self.asked.push(Asked { end: self.length, resendable, expect, to });
    }

    /// What was taken last may change these.
    pub(super) fn may_change(&mut self, detached: Box<Detached>) {
        self.detached = joined(self.detached.take(), Some(detached));
    }

    /// Replicas may answer some of it.
    pub(super) const fn reads(&self) -> bool {
        self.reads
    }

    /// No replica takes any of it: what comes behind it must not be seen by what is in it.
    pub(super) fn at_primary(&mut self) {
        if std::mem::take(&mut self.reads) {
            self.asked.iter_mut().for_each(|asked| asked.to = asked.to.at_primary());
        }
    }

    /// The next `length` bytes are a command of a transaction: what becomes of one becomes of all, so they are one
    /// unit.
    pub(super) fn add_queued(&mut self, length: usize, lane: &Lane) {
        self.length += length;
        self.own.get_or_insert_with(|| lane.clone());
        match self.asked.last_mut() {
            Some(Asked { end, expect: Expect::Replies(replies), .. }) => (*end, *replies) = (self.length, *replies + 1),
            _ => {
                self.asked.push(Asked { end: self.length, resendable: false, expect: Expect::Replies(1), to: To::Home })
            }
        }
    }

    /// Cuts the batch out of the buffer, with the connection it is for if that is the client's own.
    pub(super) fn take(&mut self, incoming: &mut BytesMut) -> Option<(Batch, Option<Lane>)> {
        if self.asked.is_empty() {
            return None;
        }
        (self.usual, self.reads) = (self.asked.len(), false);
        let bytes = incoming.split_to(std::mem::take(&mut self.length)).freeze();
        let (asked, detached) = (std::mem::take(&mut self.asked), self.detached.take().map(Rc::from));
        Some((Batch { bytes, asked, detached, ..Batch::default() }, self.own.take()))
    }
}
