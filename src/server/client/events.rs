//! A client that is subscribed over its own connection hears of the events of owned keys, too (keyspace notifications).
//! One that is subscribed in a hub hears of them by that (`dispatch/connection/subscribe.rs`).

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::resp::pubsub::Kind;
use crate::upstream::Pinned;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// It hears of what the upstream has confirmed, and of what it confirms from now on as soon as it does: before the
    /// client is told.
    pub(super) fn hear_events(&mut self) {
        let listening = self.services.listening(&mut self.session);
        if let Some(own) = self.session.way.connection() {
            own.inbox.is_followed_by(listening.clone());
            listening.is_subscribed_to(&subscribed(own));
        }
    }

    /// The same of a connection that is another one now, if it carries subscriptions. While the upstream is away the
    /// client goes on to hear of owned keys.
    pub(super) fn follow_events(&mut self) {
        match self.session.way.inbox() {
            _ if self.session.subscriber().is_some() => {}
            None => self.session.hears_nothing(),
            Some(inbox) if inbox.subscribed() != [0; 3] => self.hear_events(),
            Some(_) => {}
        }
    }
}

fn subscribed(own: &Pinned) -> Vec<(Kind, Bytes)> {
    let names = |kind| own.names(kind).into_iter().map(move |name| (kind, name));
    [Kind::Channel, Kind::Pattern].into_iter().flat_map(names).collect()
}
