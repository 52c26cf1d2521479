//! A request of a cluster's client that a node has sent elsewhere.

use std::pin::Pin;
use std::time::Instant;

use tokio::time::Sleep;

use super::part::Part;

/// Where the front request was sent again.
#[derive(Debug)]
pub(super) struct Again {
    /// The node that it was sent to, once it was.
    pub(super) part: Option<Part>,
    /// It is sent after a pause.
    pub(super) pause: Option<Pin<Box<Sleep>>>,
    /// When a node first sent it elsewhere, and whether one has said that another one owns the slot.
    pub(super) since: Instant,
    has_moved: bool,
}

impl Default for Again {
    fn default() -> Self {
        Self { part: None, pause: None, since: Instant::now(), has_moved: false }
    }
}

impl Again {
    /// A node has said that another one owns the slot; true if one has said that before.
    pub(super) const fn has_moved_before(&mut self) -> bool {
        std::mem::replace(&mut self.has_moved, true)
    }
}
