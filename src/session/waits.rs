//! What a client that is held waits for: when its rules change, each of these is judged anew.

use crate::command::{OwnedRequest, Request};

/// Bytes of requests that are remembered; who waits for more is judged as if it might not.
const MOST: usize = 16 * 1024;

/// Requests that may block, since everything was last answered.
#[derive(Debug, Default)]
pub struct Waits {
    requests: Vec<OwnedRequest>,
    bytes: usize,
}

impl Waits {
    /// Notes a request that may block.
    pub fn add(&mut self, request: &Request<'_>) {
        self.bytes = self.bytes.saturating_add(request.raw().len());
        if self.bytes <= MOST {
            self.requests.push(OwnedRequest::copy(request));
        }
    }

    /// True when one of them `is_refused`, or that cannot be told.
    pub fn any(&self, is_refused: impl FnMut(&OwnedRequest) -> bool) -> bool {
        self.bytes > MOST || self.requests.iter().any(is_refused)
    }
}
