//! A client that has a connection of its own, where the upstream is a cluster: what it has told the upstream of itself
//! there (CLIENT NO-EVICT, NO-TOUCH and what is unknown) is told again on a connection to each other node that it uses.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::blocking::{On, SOON, Waited};
use super::connection::End;
use super::{Client, Next};
use crate::command::{OwnedRequest, Request};
use crate::dispatch::Exclusive;
use crate::errors;
use crate::route::{Route, Unknown};
use crate::upstream::{Expect, Lost, Pinned, To, Trail};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// True for a request of a client that needs a connection to its node first.
    #[inline]
    pub(super) fn must_reach(&self, route: &Route) -> bool {
        self.session.way.is_dedicated()
            && matches!(route, Route::PassThrough(_))
            && self.services.upstream.is_cluster()
            && self.session.has_to_say()
            && !self.has_own_to(self.session.to)
    }

    fn has_own_to(&self, to: To) -> bool {
        let upstream = &self.services.upstream;
        let leads = |own: &Pinned| to == To::Home || upstream.leads_to(own, to);
        self.session.way.own_to(leads).is_some()
    }

    /// Takes the request that needs a connection out of the buffer.
    pub(super) fn take_far(&mut self, length: usize) -> Next {
        self.send_batch();
        let request = OwnedRequest::copy(&Request::new(&self.connection.incoming[..length], self.scanner.spans()));
        self.connection.incoming.advance(length);
        Next::Exclusive(Exclusive::Far(request))
    }

    /// Gets the connection, and looks at the request again.
    pub(super) async fn reach(&mut self, request: &OwnedRequest) -> Result<(), End> {
        if let Some(pinned) = self.borrow(Duration::ZERO).await? {
            self.session.way.goes_beside(pinned);
            self.put_back(request);
        }
        Ok(())
    }

    /// A further connection, once it has been told what the client's own one was told; `None` if it refuses, which the
    /// client has been answered.
    pub(super) async fn told(&mut self, mut pinned: Pinned) -> Result<Option<Pinned>, End> {
        if !self.session.has_to_say() {
            return Ok(Some(pinned));
        }
        let telling = self.session.tell(&self.services.upstream, &mut pinned);
        let told = self.connection.meanwhile(telling).await?;
        Ok(told.map_err(|text| self.error(&text)).ok().map(|()| pinned))
    }

    /// A command that may wait, and may set what the upstream keeps for a connection: at the node of its keys.
    pub(super) async fn unknown_at_node(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<(), End> {
        let to = self.session.to;
        if unknown == Unknown::State && self.session.way.beside().is_some_and(|beside| !beside.may_say(request)) {
            self.error(errors::connection::TOO_MUCH_SAID);
            return Ok(());
        }
        let mut further = None;
        if !self.has_own_to(to) {
            further = self.borrow(SOON).await?;
            if further.is_none() {
                return Ok(());
            }
        }
        let (mut trail, mut pushes) = (Trail::of(to), BytesMut::new());
        loop {
            let services = self.services.clone();
            let leads = |own: &Pinned| to == To::Home || services.upstream.leads_to(own, to);
            let Some(over) = further.as_ref().or_else(|| self.session.way.own_to(leads)) else { return Ok(()) };
            let (on, asked) = (On::of(over), over.ask_patiently(request.bytes(), Expect::Replies(1), &mut pushes));
            let reply = match self.waited(on, request, SOON, asked).await? {
                Waited::Ended(Ok(reply)) => reply,
                Waited::Ended(Err(Lost)) => {
                    self.lose(further.as_ref());
                    self.error(errors::upstream::LOST_WAITING);
                    return Ok(());
                }
                Waited::Revoked(refusal) => {
                    self.lose(further.as_ref());
                    self.refused(request, &refusal);
                    return Ok(());
                }
            };
            self.connection.replies.loud().put_slice(&pushes.split());
            let over = further.as_ref().or_else(|| self.session.way.own_to(leads));
            let Some(onward) = over.and_then(|over| services.upstream.onward(over, &reply)) else {
                self.connection.replies.tail().put_slice(&reply);
                return self.keep(further, unknown, request, unknown.left_nothing(&reply)).await;
            };
            further = self.go_on(&mut trail, onward).await?;
            if further.is_none() {
                return Ok(());
            }
        }
    }

    /// The connection that a command went over may be in any state.
    fn lose(&mut self, further: Option<&Pinned>) {
        if further.is_none() {
            self.session.lose_connection();
        }
    }

    /// Keeps the connection on which a command may have left something.
    async fn keep(
        &mut self,
        further: Option<Pinned>,
        unknown: Unknown,
        request: &OwnedRequest,
        left_nothing: bool,
    ) -> Result<(), End> {
        if left_nothing {
            if further.is_some() {
                self.session.note_unheard(&self.services.upstream);
            }
            further.into_iter().for_each(Pinned::give_back);
            return Ok(());
        }
        let is_first = self.session.way.connection().is_none();
        match further {
            Some(pinned) if is_first => self.session.way.lend(pinned),
            Some(pinned) if self.session.way.is_dedicated() => {
                self.session.way.goes_beside(pinned);
                if unknown == Unknown::State && self.call_own(&request.bytes()).await.is_none() {
                    return Ok(());
                }
            }
            // A transaction has the client's own one: what this one has been told ends with it.
            Some(_) => return Ok(()),
            None => {}
        }
        if unknown == Unknown::State {
            self.session.way.beside_mut().into_iter().for_each(|beside| beside.has_said(request));
        }
        self.note_left(unknown);
        Ok(())
    }
}
