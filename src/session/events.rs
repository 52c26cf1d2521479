//! What a client hears of the events of owned keys (keyspace notifications), by its subscriptions: these are made at
//! the upstream, and what happens to owned keys comes among the messages from there.

use std::sync::Arc;

use bytes::Bytes;

use super::Session;
use crate::key_events::{Hearer, KeyEvents, Listening};
use crate::resp::pubsub::Kind;
use crate::telemetry::clock::Moment;
use crate::upstream::{Follower, Subscriber};

/// A client that has subscribed to something.
#[derive(Debug)]
pub struct Events {
    listening: Arc<Listening>,
    /// Where its messages wait.
    outbox: Arc<Subscriber>,
}

impl Hearer for Subscriber {
    fn hears(&self, message: Bytes) {
        self.deliver(message, Moment::now());
    }
}

impl Follower for Listening {
    fn confirmed(&self, kind: Kind, name: &[u8], on: bool) {
        self.subscribes(kind, name, on);
    }
}

impl Session {
    /// Where messages wait for it that do not come over its own connection.
    #[must_use]
    pub fn outbox(&self) -> Option<&Arc<Subscriber>> {
        self.subscriber().or_else(|| self.events.as_ref().map(|events| &events.outbox))
    }

    /// From now on it hears of the events to which it is subscribed; at most so many bytes of them wait.
    pub fn hears_of(&mut self, events: &Arc<KeyEvents>, most: usize) -> Arc<Listening> {
        let known = self.events.take();
        let outbox = match (self.subscriber(), &known) {
            (Some(subscriber), _) => subscriber.clone(),
            (None, Some(known)) => known.outbox.clone(),
            (None, None) => Arc::new(Subscriber::new(self.peer.id, most, self.peer.holding.clone())),
        };
        let known = known.filter(|known| Arc::ptr_eq(&known.outbox, &outbox));
        let listening =
            known.map_or_else(|| Arc::new(Listening::new(events.clone(), outbox.clone())), |known| known.listening);
        self.events = Some(Events { listening: listening.clone(), outbox });
        listening
    }

    /// It is subscribed to nothing any more over its own connection.
    pub fn hears_nothing(&mut self) {
        self.events = None;
    }
}
