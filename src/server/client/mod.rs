//! THE LOOP: one client, from its first byte to its last.
//!
//! ```text
//! read -> scan -> route -+-> pass-through: joins the batch, one slice to the client's lane ------+
//!                        +-> owned, local: answered in place, or later when a load ends ---------+-> replies -> write
//!                        +-> exclusive: when all before is answered, with nothing else ------+
//! ```
//!
//! The folder by what each file owns: the socket (`connection`, `transfer`), the replies owed and what is written
//! (`replies`, `unsolicited`, `output`), the requests in the buffer (`intake`, `batch`, `multi_lookahead`), and what a
//! client does alone (`exclusive`, and from there `blocking`, `dedicated`, `redirect`, `streaming`, `transaction`,
//! `resubscribe`, `revoke`, `replicate`, `tracking`), or must forget (`modes`).

mod acknowledged;
mod announcement;
mod batch;
mod blocking;
pub(super) mod connection;
mod dedicated;
mod events;
mod everywhere;
mod exclusive;
mod explain;
mod fallback;
mod heard;
mod intake;
mod modes;
mod multi_lookahead;
mod near;
mod ordinary;
mod output;
mod parting;
mod passing;
mod reach;
mod redirect;
mod replicate;
mod replies;
mod resubscribe;
mod revoke;
mod streaming;
mod traced;
mod tracking;
mod transaction;
mod transfer;
mod unsolicited;

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::dispatch::{Exclusive, Services};
use crate::resp::request::RequestScanner;
use crate::session::Session;
use crate::telemetry::clock::Tick;
use crate::transaction::Transaction;
use crate::upstream::{Inbox, Member};
use batch::Gathered;
use blocking::Needs;
use connection::{Connection, End};
use multi_lookahead::Lookahead;
use replicate::Attached;

pub(super) struct Client<S> {
    connection: Connection<S>,
    session: Session,
    services: Rc<Services>,
    scanner: RequestScanner,
    /// Requests at the front of the buffer that go the same way.
    batch: Gathered,
    /// What stands behind a MULTI.
    lookahead: Lookahead,
    transaction: Option<Transaction>,
    /// Of its requests nothing is to be asked but the command table and the keyspace.
    is_ordinary: bool,
    /// What is under way goes over its own connection, while it watches and other requests go over the lanes.
    is_on_own: bool,
    /// It is one of those who have shown their login to the upstream (`auth.mode = "upstream"`).
    login: Option<Member>,
    /// It follows the upstream.
    attached: Option<Attached>,
    /// Until then its long requests are gathered, because they may have to be sent to several nodes of a cluster.
    gathers_until: Option<Tick>,
}

/// What comes after a look at the buffer.
enum Next {
    /// Every whole request has been taken: read more.
    Read,
    /// More of a transaction, if it is on its way.
    ReadSoon,
    /// The client must take some of its replies, or be answered, before more is taken from the buffer.
    Room,
    /// What comes next, once everything before it has been answered.
    Settled,
    /// Something that needs the client alone.
    Exclusive(Exclusive),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(mut connection: Connection<S>, session: Session, services: Rc<Services>) -> Self {
        connection.replies.unsolicited.near.clone_from(&services.near);
        let limits = &services.policy.limits;
        let scanner = RequestScanner::new(limits.request_argument.0, limits.request_arguments);
        Self {
            connection,
            session,
            services,
            scanner,
            batch: Gathered::default(),
            lookahead: Lookahead::default(),
            transaction: None,
            is_ordinary: false,
            is_on_own: false,
            login: None,
            attached: None,
            gathers_until: None,
        }
    }

    /// Serves the client until it leaves, and closes.
    pub(super) async fn serve(&mut self) {
        let mut end = self.converse().await;
        while matches!(end, Err(End::Broken)) && self.can_resubscribe() {
            end = match Box::pin(self.resubscribe()).await {
                Ok(()) => self.converse().await,
                lost => lost,
            };
        }
        self.session.tally.flush(&self.services.metrics.commands);
        let lingers = matches!(end, Err(End::Draining));
        match end {
            Err(End::Left | End::Draining) => {
                let _ = self.farewell().await;
            }
            // What came before the loss is the client's.
            Err(End::Broken) => {
                self.log_loss();
                self.flush_rest().await;
            }
            Err(End::Socket(error)) => {
                let (client, address) = (self.session.peer.id, &self.session.peer.addresses.0);
                tracing::debug!(client, address, %error, "a client's socket failed")
            }
            _ => {}
        }
        self.log_parted();
        // Whatever it waits for is forgotten, however long closing the connection takes.
        self.session.way.close();
        self.connection.close().await;
        if lingers {
            self.connection.linger().await;
        }
    }

    /// A subscription that is lost cannot be hidden: messages may be missing. The client will subscribe again.
    fn log_loss(&self) {
        let logged = &self.services.metrics.clients.logged;
        if self.was_slow() {
            self.services.metrics.clients.cut.inc();
            self.services.metrics.clients.limited("client-output-buffer-limit");
            let Some(unlogged) = logged.unread_messages.due() else { return };
            return tracing::warn!(
                client = self.session.peer.id,
                address = self.session.peer.addresses.0,
                limit = "client-output-buffer-limit pubsub (of the upstream)",
                unlogged,
                "a client did not read its messages and is disconnected"
            );
        }
        if let Some(inbox) = self.session.way.inbox().filter(|_| !self.session.way.state().ends_with_connection()) {
            let Some(unlogged) = logged.own_lost.due() else { return };
            let error = inbox.lost().unwrap_or_default();
            tracing::warn!(
                client = self.session.peer.id,
                address = self.session.peer.addresses.0,
                %error,
                unlogged,
                "a client's own upstream connection was lost, and its subscriptions or tracking with it; \
                 the client is closed"
            );
        }
    }

    /// True for a client that the upstream gave up because it did not read: it is closed, as that closes its clients.
    fn was_slow(&self) -> bool {
        self.session.subscribed() != [0; 3] && self.session.way.inbox().is_some_and(Inbox::was_slow)
    }

    async fn converse(&mut self) -> Result<(), End> {
        self.connection.enroll().await;
        loop {
            if let Some(latest) = self.services.latest() {
                self.adopt(latest);
            }
            if self.session.peer.is_summoned() {
                // A separate allocation, as below.
                Box::pin(self.come_when_summoned()).await?;
            }
            if self.must_track_again() {
                Box::pin(self.track_again()).await?;
            }
            self.weigh();
            let next = self.take_requests();
            self.note_subscriber();
            self.connection.may_wait = self.session.way.may_wait();
            self.session.tally.flush(&self.services.metrics.commands);
            match next {
                Next::Exclusive(exclusive) => {
                    self.gets(Needs::Answers).await?;
                    // A separate allocation: a task is as large as the largest thing it may do, and most clients are
                    // idle.
                    Box::pin(self.timed(exclusive)).await?;
                    self.connection.replies.settled = None;
                }
                _ if self.session.closing => return self.connection.settle().await,
                Next::ReadSoon => {
                    let patience = self.lookahead.patience();
                    self.lookahead.given_up = !self.connection.read_soon(patience).await?;
                }
                Next::Room => self.gets(Needs::Room).await?,
                Next::Settled => self.gets(Needs::Answers).await?,
                Next::Read if self.must_track_again() => {}
                Next::Read if self.must_end_writes() => self.gets(Needs::Answers).await?,
                Next::Read => match self.exchange().await {
                    Err(End::Draining) if self.connection.asks_more().await? => {}
                    read => read?,
                },
            }
        }
    }

    /// Goes over to the configuration that a reload brought.
    fn adopt(&mut self, latest: Rc<Services>) {
        self.connection.limits = latest.policy.limits.clone();
        self.session.account.limit(self.connection.limits.client_output.0);
        self.scanner.set_limits(self.connection.limits.request_argument.0, self.connection.limits.request_arguments);
        if let Some(transaction) = &mut self.transaction {
            match Arc::ptr_eq(&self.services.owned, &latest.owned) {
                false => transaction.outdate(),
                true => transaction.outdate_mapped(|id| self.services.has_other_mode(&latest, id)),
            }
        }
        self.forget_by_mode(&latest);
        if !Arc::ptr_eq(&self.services.owned, &latest.owned) {
            // What it has read before, or is owed, nobody follows any more.
            self.forget_owned();
        }
        // What has been looked at was judged by the other one.
        self.lookahead = Lookahead::default();
        let before = std::mem::replace(&mut self.services, latest);
        self.adopt_near(&before);
        self.revoke(&before);
    }

    /// What comes over the shared subscriber connection, and of owned keys, is written in the client's protocol.
    fn note_subscriber(&mut self) {
        let unsolicited = &mut self.connection.replies.unsolicited;
        unsolicited.proto = self.session.proto();
        let outbox = self.session.outbox();
        if outbox.map(Arc::as_ptr) != unsolicited.subscriber.as_ref().map(Arc::as_ptr) {
            unsolicited.subscriber = outbox.cloned();
        }
    }
}
