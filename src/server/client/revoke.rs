//! Applies rules that a reload takes away to what is under way, as Redis's ACL SETUSER does: a subscriber that may not
//! listen any more is closed, a wait that is not allowed any more is ended, and a MULTI whose commands were judged by
//! other rules is not run, unless the upstream has already been asked to run it.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::blocking::{Seat, Waited, at_last};
use super::connection::End;
use crate::command::OwnedRequest;
use crate::dispatch::{Services, end_wait};
use crate::resp::pubsub::Kind;
use crate::route::{Refusal, Route};
use crate::session::Rules;
use crate::telemetry::refusals::Who;
use crate::transaction::Transaction;
use crate::upstream::{Lost, UNBLOCK_AGAIN, is_unblocked};

/// A request may still be on its way to the upstream when its wait is to end, so the end is requested up to so many
/// times.
const ATTEMPTS: usize = 40;
/// Where the upstream cannot be asked to end a wait, an element that it has already given has so long to arrive.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// The result of a wait that was to be ended.
fn given(reply: Option<Result<Bytes, Lost>>, refusal: Refusal) -> Waited {
    match reply {
        Some(Ok(reply)) if !is_unblocked(&reply) => Waited::Ended(Ok(reply)),
        _ => Waited::Revoked(refusal),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Ends what the client may not do any more, by the rules of the configuration that it has just gone over to.
    pub(super) fn revoke(&mut self, before: &Services) {
        let Who { address, user } = self.session.who();
        let rules = self.session.adopt(&self.services.access);
        let client = self.session.peer.id;
        if rules == Rules::Gone {
            tracing::info!(client, address, user, "a client's user is gone since a reload; the client is closed");
            self.transaction.iter_mut().for_each(Transaction::outdate_queue);
            return self.part();
        }
        if rules == Rules::Same && before.router.denied == self.services.router.denied {
            return;
        }
        self.transaction.iter_mut().for_each(Transaction::outdate_queue);
        if self.listens_against_rules() {
            tracing::info!(
                client,
                address,
                user,
                "a client may not listen any more to what it listens to since a reload; it is closed"
            );
            self.part();
        }
        let waits = self.session.way.take_waits();
        if !self.connection.replies.is_settled() && waits.any(|request| self.is_refused(request).is_some()) {
            tracing::info!(
                client,
                address,
                user,
                "a client may not wait any more for what it waits for since a reload; it is closed"
            );
            self.session.peer.kill();
        }
    }

    /// Closes it when it has what it is owed; at once if that may never come, while it would listen on.
    pub(super) fn part(&mut self) {
        self.session.closing = true;
        if self.session.way.may_wait() && !self.connection.replies.is_settled() {
            self.session.peer.kill();
        }
    }

    /// True when it is subscribed to a channel that its user may not listen to, or monitors or follows and may not.
    fn listens_against_rules(&mut self) -> bool {
        let names = |kind| match (self.session.way.connection(), self.session.subscriber()) {
            (_, Some(subscriber)) => subscriber.names(kind),
            (Some(own), None) => own.names(kind),
            (None, None) => Vec::new(),
        };
        if let Some(user) = &self.session.user {
            for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
                if !names(kind).iter().all(|name| user.may_listen(name, kind == Kind::Pattern)) {
                    return true;
                }
            }
        }
        let state = self.session.way.state();
        let listens = [state.monitor.then_some("MONITOR"), state.follows_by()];
        listens.into_iter().flatten().any(|command| {
            let request = OwnedRequest::from_words(&[command.as_bytes().to_vec()]);
            self.is_refused(&request).is_some()
        })
    }

    /// Why the client may not send `request` now, if so.
    fn is_refused(&mut self, request: &OwnedRequest) -> Option<Refusal> {
        match self.services.route(&mut self.session, &request.view()) {
            Route::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Waits for `reply`, the upstream's to a request that may block, which goes over this `connection`; for
    /// as long as the client may wait and is there, or in any case until then.
    pub(super) async fn wait_allowed(
        &mut self,
        connection: Option<Seat>,
        request: &OwnedRequest,
        until: Instant,
        reply: impl Future<Output = Result<Bytes, Lost>>,
    ) -> Result<Waited, End> {
        let (mut reply, mut is_sent) = (pin!(reply), false);
        let view = request.view();
        let spec = self.services.upstream.lookup(view.arg(0), view.arg(1));
        let may_block = spec.is_none_or(|spec| spec.flags.blocking || !spec.is_clean());
        loop {
            if let Some(latest) = self.services.latest() {
                self.adopt(latest);
                if self.session.closing {
                    return Err(End::Killed);
                }
                match self.is_refused(request) {
                    Some(refusal) if !is_sent => return Ok(Waited::Revoked(refusal)),
                    Some(refusal) if may_block => return self.end_wait(connection.as_ref(), reply, refusal).await,
                    _ => {}
                }
            }
            is_sent = true;
            let services = self.services.clone();
            let end = tokio::select! {
                biased;
                reply = &mut reply => return Ok(Waited::Ended(reply)),
                end = self.connection.left_unless(|| services.latest().is_some()) => end,
            };
            if let Some(end) = end {
                if matches!(end, End::Draining) && may_block {
                    return self.end_at_stop(connection.as_ref(), reply).await;
                }
                return at_last(reply, until, end).await.map(Waited::Ended);
            }
        }
    }

    /// The upstream ends the wait, unless it has given something already: that is the client's. If the upstream cannot
    /// be asked, what has been given has a second to arrive; then the connection is dropped, and the wait with it.
    async fn end_wait(
        &mut self,
        connection: Option<&Seat>,
        mut reply: Pin<&mut impl Future<Output = Result<Bytes, Lost>>>,
        refusal: Refusal,
    ) -> Result<Waited, End> {
        for _ in 0..ATTEMPTS {
            if !self.unblock(connection).await? {
                break;
            }
            tokio::select! {
                biased;
                reply = &mut reply => return Ok(given(Some(reply), refusal)),
                end = self.connection.left() => return at_last(reply, Instant::now(), end).await.map(Waited::Ended),
                () = tokio::time::sleep(UNBLOCK_AGAIN) => {}
            }
        }
        Ok(given(at_last(reply, Instant::now() + ON_ITS_WAY, End::Left).await.ok(), refusal))
    }

    /// The sidecar stops, and the upstream ends the wait: else it would give the next element to nobody. What it has
    /// given already is the client's.
    async fn end_at_stop(
        &mut self,
        connection: Option<&Seat>,
        mut reply: Pin<&mut impl Future<Output = Result<Bytes, Lost>>>,
    ) -> Result<Waited, End> {
        let (services, session) = (&self.services, &mut self.session);
        let ending = async {
            loop {
                let Seat { id, node } = connection?;
                let asked = end_wait(services, session, *id, node.as_deref(), "ERROR")?;
                tokio::select! {
                    biased;
                    reply = &mut reply => return Some(reply),
                    told = asked.whole() => told.ok().filter(|told| told.starts_with(b":"))?,
                };
                // It has ended, or it has not come to the upstream yet.
                if let Ok(reply) = tokio::time::timeout(UNBLOCK_AGAIN, &mut reply).await {
                    return Some(reply);
                }
            }
        };
        match tokio::time::timeout(ON_ITS_WAY, ending).await {
            Ok(Some(Ok(reply))) if !is_unblocked(&reply) => Ok(Waited::Ended(Ok(reply))),
            _ => Err(End::Draining),
        }
    }

    /// Asks the upstream to end what waits on this connection; false when that cannot be asked.
    pub(super) async fn unblock(&mut self, connection: Option<&Seat>) -> Result<bool, End> {
        let Some(Seat { id, node }) = connection else { return Ok(false) };
        let asked = end_wait(&self.services, &mut self.session, *id, node.as_deref(), "ERROR");
        let Some(asked) = asked else { return Ok(false) };
        let told = self.connection.meanwhile(asked.whole()).await?;
        Ok(told.is_ok_and(|reply| reply.starts_with(b":")))
    }
}
