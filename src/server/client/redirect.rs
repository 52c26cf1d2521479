//! CLIENT TRACKING with REDIRECT: the upstream sends a client's invalidations to another connection, which is that of
//! another client here. That client may be on any worker thread, and gets a connection of its own for it, which it
//! keeps until it leaves.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::clients::Peer;
use crate::command::OwnedRequest;
use crate::errors;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};
use crate::session::{Redirect, Session};

/// A request as the upstream is sent it, and the redirection in it; or the error for the client.
type Redirected = Result<(Bytes, Option<Redirect>), &'static str>;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// CLIENT TRACKING ... REDIRECT names a client by our id; the upstream knows that client's own connection by
    /// another. What is no number is for the upstream to refuse.
    pub(super) async fn redirected(&mut self, request: &OwnedRequest) -> Result<Redirected, End> {
        let view = request.view();
        let named = (3..view.len()).find(|i| view.is(*i - 1, "REDIRECT")).filter(|_| view.is(1, "TRACKING"));
        let Some((at, id)) = named.and_then(|at| Some((at, parse_i64(view.arg(at))?))) else {
            return Ok(Ok((request.bytes(), None)));
        };
        let peer = u64::try_from(id).ok().and_then(|id| self.services.clients.find(id));
        let Some(peer) = peer else { return Ok(Err(errors::as_redis::NO_REDIRECT_TARGET)) };
        let connection = match self.connection_of(&peer).await? {
            Ok(connection) => connection,
            Err(text) => return Ok(Err(text)),
        };
        let theirs = connection.to_string();
        let words: Vec<&[u8]> =
            view.args_from(0).enumerate().map(|(i, word)| if i == at { theirs.as_bytes() } else { word }).collect();
        Ok(Ok((encode::request_of(&words), Some(Redirect { client: peer.id, connection }))))
    }

    /// The upstream's id of a client's own connection, which that client takes now if it has none.
    async fn connection_of(&mut self, peer: &Peer) -> Result<Result<i64, &'static str>, End> {
        let patience = self.services.upstream.endpoint().settings.pinned_timeout.max(LEAST_PATIENCE);
        let mut answer = pin!(tokio::time::timeout(patience, peer.summon()));
        let session = &mut self.session;
        let told = self.connection.meanwhile(poll_fn(|cx| {
            // Two that name each other, or one that names itself.
            if session.peer.is_summoned() {
                be_target(session);
            }
            answer.as_mut().poll(cx)
        }));
        Ok(match told.await? {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) => Err(errors::connection::REDIRECT_TARGET_HAS_NONE),
            Ok(Err(_)) => Err(errors::as_redis::NO_REDIRECT_TARGET),
            Err(_) => Err(errors::connection::REDIRECT_TARGET_WAITS),
        })
    }

    /// Takes a connection of its own, because somebody's invalidations are to go there.
    pub(super) async fn come_when_summoned(&mut self) -> Result<(), End> {
        if self.session.way.is_dedicated() {
            be_target(&mut self.session);
            return Ok(());
        }
        self.connection.answered().await?;
        let is_deaf = self.services.has_hub(&self.session) && self.session.proto() == Proto::Resp2;
        if !is_deaf && self.session.way.connection().is_none() {
            let (services, group, account) =
                (self.services.clone(), self.session.group.clone(), self.session.account.clone());
            if let Ok(lent) = self.connection.meanwhile(services.upstream.pin(&group, &account)).await? {
                self.session.way.lend(lent);
            }
        }
        be_target(&mut self.session);
        self.settle_way();
        Ok(())
    }

    /// What the upstream says of a redirection that is broken names our client.
    pub(super) fn note_redirect(&self) {
        let redirect = self.session.way.state().redirect;
        if let Some(own) = self.session.way.connection() {
            own.inbox.redirects(redirect.map(|redirect| (redirect.connection, redirect.client)));
        }
    }
}

/// A client that has a connection of its own may need so long to be asked for it.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// From now on the client's own connection, if it has one, is kept for other clients' invalidations.
fn be_target(session: &mut Session) {
    let id = session.way.connection().and_then(|own| own.id);
    if let Some(state) = session.way.state_mut() {
        state.target |= id.is_some();
    }
    session.peer.answer_summons(id);
}

/// The reply of CLIENT GETREDIR or TRACKINGINFO, with our id of the client in the place of the upstream's.
pub(super) fn with_our_ids(reply: &Bytes, redirect: Option<Redirect>) -> Bytes {
    let Some(redirect) = redirect else { return reply.clone() };
    let text = String::from_utf8_lossy(reply);
    let (theirs, ours) = (format!(":{}\r\n", redirect.connection), format!(":{}\r\n", redirect.client));
    if *text == theirs {
        return Bytes::from(ours);
    }
    let marker = "redirect\r\n";
    Bytes::from(text.replacen(&format!("{marker}{theirs}"), &format!("{marker}{ours}"), 1))
}
