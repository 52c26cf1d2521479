//! What a client must forget, and what of it ends, when mappings have other modes.

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::dispatch::Services;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client with CLIENT TRACKING may keep what the upstream said of keys that the sidecar answers for now: nobody
    /// would tell it when these change. It is told to forget everything.
    pub(super) fn forget_by_mode(&mut self, latest: &Services) {
        let is_over = self.services.has_other_modes(latest) && !latest.router.modes.is_changing();
        if !is_over || !self.session.way.state().tracking {
            return;
        }
        if self.session.way.tracking().is_some() {
            let forgotten = self.session.forget_all(&latest.upstream);
            return self.connection.replies.loud().put_slice(&forgotten);
        }
        // Where it hears of its keys is the same for those of the upstream.
        self.forget_owned();
    }

    /// The client is told to forget all owned keys, behind everything that it is owed: one of the upstream's replies
    /// that have not come yet may be about a key that is owned from now on.
    pub(super) fn forget_owned(&mut self) {
        self.connection.replies.tells_behind = self.session.is_tracking();
        self.session.forgets_all_owned();
    }
}
