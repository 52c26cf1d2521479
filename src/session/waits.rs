//! The requests for which a client waits on a connection for itself alone. When the client's rules change, each of them
//! is judged again.

use crate::command::{OwnedRequest, Request};

/// Bytes of requests that are remembered; a client that waits for more is treated as if it might not.
const MOST: usize = 16 * 1024;

/// Requests that may block, since everything was last answered.
#[derive(Debug, Default)]
pub struct Waits {
    /// One of the requests under way may take any time.
    pub(super) may_wait: bool,
    requests: Vec<OwnedRequest>,
    bytes: usize,
}

impl Waits {
    /// Notes a request that may block.
    pub(super) fn add(&mut self, request: &Request<'_>) {
        self.bytes = self.bytes.saturating_add(request.raw().len());
        if self.bytes <= MOST {
            self.requests.push(OwnedRequest::copy(request));
        }
    }

    /// True when one of them `is_refused`, or when that cannot be said.
    pub fn any(&self, is_refused: impl FnMut(&OwnedRequest) -> bool) -> bool {
        self.bytes > MOST || self.requests.iter().any(is_refused)
    }
}
