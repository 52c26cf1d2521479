//! What a client must forget, and what of it ends, when mappings have other modes.

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::dispatch::Services;
use crate::resp::Proto;
use crate::resp::invalidation::PUSH_ALL;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client with CLIENT TRACKING may keep what the upstream said of keys that the sidecar answers for now: nobody
    /// would tell it when these change. It is told to forget everything, or closed where it cannot be told.
    pub(super) fn forget_by_mode(&mut self, latest: &Services) {
        let is_over = self.services.has_other_modes(latest) && !latest.router.modes.is_changing();
        if !is_over || !self.session.way.state().tracking {
            return;
        }
        if self.session.way.tracking().is_some() {
            let forgotten = self.session.forget_all(&latest.upstream);
            return self.connection.replies.loud().put_slice(&forgotten);
        }
        let is_elsewhere = self.session.way.state().redirect.is_some() || self.session.proto() == Proto::Resp2;
        if !is_elsewhere {
            return self.connection.replies.loud().put_slice(PUSH_ALL);
        }
        tracing::info!(
            client = self.session.peer.id,
            address = self.session.peer.addresses.0,
            "a client tracks keys for another client, which cannot be told that mappings have other modes; it is closed"
        );
        self.part();
    }
}
