//! A client that makes itself a replica of the upstream. What it says of itself first (REPLCONF) is kept by the
//! upstream with a connection of the client's own. From SYNC or PSYNC on everything passes as bytes there, until either
//! side ends it. What the client sends is still delimited and judged, so that nothing that is refused reaches the
//! upstream this way.
//!
//! Invariants:
//! - a client that follows is written nothing but what the upstream sends;
//! - no more waits here than for any client that does not read: what it has not taken, the upstream keeps, whose
//!   `client-output-buffer-limit replica` decides how long.

use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::command::{OwnedRequest, Request, Spec};
use crate::session::Replica;
use crate::telemetry::metrics::ClientMetrics;
use crate::upstream::{Batch, Expect, Inbox, Pinned};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// REPLCONF of a client that does not follow yet. Whatever it is answered, the upstream may have kept something.
    pub(super) async fn announce(&mut self, request: &OwnedRequest) -> Result<(), End> {
        if acknowledges(&request.view()) || !self.has_own(Duration::ZERO).await? {
            return Ok(());
        }
        self.session.way.state_mut().into_iter().for_each(|state| state.replica = Replica::Announced);
        if let Some(reply) = self.call_own(&request.bytes()).await {
            self.connection.replies.tail().put_slice(&reply);
        }
        Ok(())
    }

    /// SYNC and PSYNC. Whether and how they are answered is for the upstream alone.
    pub(super) async fn follow(&mut self, spec: &Spec, request: &OwnedRequest) -> Result<(), End> {
        if !spec.accepts(request.view().len()) {
            self.error(&spec.arity_error());
            return Ok(());
        }
        if self.session.subscriber().is_some() && self.session.subscribed() != [0; 3] {
            // A message would stand in the middle of what it follows: a server ends a replica that it sends one.
            self.session.closing = true;
            return Ok(());
        }
        if !self.has_own(Duration::ZERO).await? {
            return Ok(());
        }
        self.session.way.dedicate();
        self.session.way.connection().into_iter().for_each(Pinned::pass_bytes);
        let command = if request.view().is(0, "SYNC") { "SYNC" } else { "PSYNC" };
        self.session.way.state_mut().into_iter().for_each(|state| state.replica = Replica::Follows(command));
        self.follow_way();
        self.note_attached();
        let length = request.bytes().len();
        let ticket = self.services.lane(&mut self.session).submit(Batch::expecting(request.bytes(), Expect::Nothing));
        self.connection.replies.batch(ticket, length);
        Ok(())
    }

    fn note_attached(&mut self) {
        let metrics = self.services.metrics.clients.clone();
        if let Some(unlogged) = metrics.logged.replica_attached.due() {
            tracing::info!(
                client = self.session.peer.id,
                address = self.session.peer.addresses.0,
                unlogged,
                "a client follows the upstream as a replica does; what it is sent has no owned keys"
            );
        }
        self.attached = Some(Attached::new(metrics));
    }

    /// Logs that a client that followed does no more.
    pub(super) fn log_parted(&self) {
        let Some(unlogged) = self.attached.as_ref().and_then(|attached| attached.0.logged.replica_gone.due()) else {
            return;
        };
        let why = self.session.way.inbox().and_then(Inbox::lost);
        tracing::info!(
            client = self.session.peer.id,
            address = self.session.peer.addresses.0,
            why = why.as_deref().unwrap_or("it left, or was closed here"),
            unlogged,
            "a replica's connection has ended; it may come again and go on where it was"
        );
    }

    /// Writes what came before a loss to a client that is closed: a copy is whole only with its last bytes.
    pub(super) async fn flush_rest(&mut self) {
        match self.attached {
            Some(_) => self.connection.flush_patiently().await,
            None => self.connection.flush().await,
        }
    }
}

/// True for REPLCONF ACK and GETACK, which the upstream hears from replicas only, and answers to nobody.
fn acknowledges(request: &Request<'_>) -> bool {
    (1..request.len()).step_by(2).any(|i| request.is(i, "ACK") || request.is(i, "GETACK"))
}

/// A client that follows the upstream, counted.
pub(super) struct Attached(Arc<ClientMetrics>);

impl Attached {
    fn new(metrics: Arc<ClientMetrics>) -> Self {
        metrics.replicas.inc();
        metrics.replicas_attached.inc();
        Self(metrics)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.replicas.dec();
    }
}
