//! PUBLISH and SPUBLISH behind a cluster: whoever gets the message must see what its sender has written before. The
//! nodes do not wait for each other, so the sidecar does not send the message before it has the answers to writes that
//! went to other nodes.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::command::{Request, slot_of};
use crate::session::Written;
use crate::upstream::To;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// True for a message that could overtake what its sender has written elsewhere.
    #[inline]
    pub(super) fn would_overtake(&self, request: &Request<'_>) -> bool {
        self.services.upstream.is_cluster()
            && published_at(request).is_some_and(|to| !self.session.written.is_before(to))
    }

    /// Notes a request that is under way, of which nobody knows what it writes and where.
    pub(super) fn note_under_way(&mut self) {
        if self.services.upstream.is_cluster() && !self.connection.replies.is_settled() {
            self.session.written = Written::Anywhere;
        }
    }
}

/// The node that takes a message.
fn published_at(request: &Request<'_>) -> Option<To> {
    match request.arg(0) {
        // As almost every command.
        [first, ..] if !b"PpSs".contains(first) => None,
        _ if request.is(0, "PUBLISH") => Some(To::Home),
        _ if request.is(0, "SPUBLISH") && request.len() > 1 => Some(To::Slot(slot_of(request.arg(1)))),
        _ => None,
    }
}
