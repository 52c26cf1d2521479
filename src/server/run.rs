//! The run of pass-through requests at the front of a client's buffer, before it is sent as one slice.

use bytes::BytesMut;

use crate::upstream::{Asked, Expect, Run};

#[derive(Debug, Default)]
pub(super) struct Gathered {
    length: usize,
    asked: Vec<Asked>,
}

impl Gathered {
    /// Bytes of the buffer that the run covers.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// Requests in it.
    pub(super) fn requests(&self) -> usize {
        self.asked.len()
    }

    /// The next `length` bytes are a unit too.
    pub(super) fn add(&mut self, length: usize, resendable: bool, expect: Expect) {
        self.length += length;
        self.asked.push(Asked { end: self.length, resendable, expect });
    }

    /// Cuts the run out of the buffer.
    pub(super) fn take(&mut self, incoming: &mut BytesMut) -> Option<Run> {
        if self.asked.is_empty() {
            return None;
        }
        let bytes = incoming.split_to(std::mem::take(&mut self.length)).freeze();
        Some(Run { bytes, asked: std::mem::take(&mut self.asked) })
    }
}
