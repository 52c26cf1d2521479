//! `pubsub.mode = "shared"`: every subscription of the process over one upstream connection.
//!
//! ```text
//! client: subscribe -> table (who wants what) -> wishes -> connection: SUBSCRIBE -> confirmation -> table -> client
//! upstream: message -> connection -> table -> each subscriber's outbox (the payload is never copied) -> client
//! ```

mod connection;
mod subscriber;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

pub use subscriber::{Overflowed, Subscriber};

use super::endpoint::Endpoint;
use crate::resp::pubsub::Kind;
use crate::telemetry::client_memory::Holding;
use table::{Table, Wish};

/// The process's subscriptions.
#[derive(Debug)]
pub struct Hub {
    table: Mutex<Table>,
    wishes: UnboundedSender<Wish>,
    endpoint: Arc<Endpoint>,
    most_waiting: usize,
}

/// The part of the hub that its task holds.
#[derive(Debug)]
pub struct HubTask {
    hub: Arc<Hub>,
    wishes: UnboundedReceiver<Wish>,
    /// Somebody has subscribed.
    has_begun: bool,
    /// The connection was lost, and no subscriber has been informed yet.
    was_lost: bool,
}

impl Hub {
    /// A hub, and what [`HubTask::run`] needs.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, most_waiting: usize) -> (Arc<Self>, HubTask) {
        let (sender, wishes) = unbounded_channel();
        let hub = Arc::new(Self { table: Mutex::default(), wishes: sender, endpoint, most_waiting });
        (hub.clone(), HubTask { hub, wishes, has_begun: false, was_lost: false })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wishes are made while the table is locked, so that their order is that of what happened to it.
    fn wish(&self, table: &Table, wish: Option<Wish>) {
        // The task lives as long as the process; without it there is nothing to pass on.
        wish.map(|wish| self.wishes.send(wish));
        self.endpoint.metrics.hub.topics.set(table.len() as i64);
    }

    /// Subscribes, and tells when the upstream has confirmed it: what is published after that arrives.
    pub fn subscribe(&self, subscriber: &Arc<Subscriber>, kind: Kind, name: &Bytes) -> Confirmed {
        let topic = (kind, name.clone());
        let mut table = self.table();
        let (wish, active) = table.join(topic, subscriber);
        self.wish(&table, wish);
        Confirmed(active)
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, subscriber: &Arc<Subscriber>, kind: Kind, name: &Bytes) {
        let mut table = self.table();
        let wish = table.leave(&(kind, name.clone()), subscriber.id);
        self.wish(&table, wish);
    }

    /// A new subscriber, for which `pubsub.subscriber_output` bytes may wait.
    #[must_use]
    pub fn member(self: &Arc<Self>, client: u64, holding: Arc<Holding>) -> Membership {
        let subscriber = Arc::new(Subscriber::new(client, self.most_waiting, holding));
        Membership { hub: self.clone(), subscriber }
    }

    /// Ends all subscriptions of a subscriber.
    fn leave(&self, subscriber: &Arc<Subscriber>) {
        for (kind, name) in subscriber.topics() {
            self.unsubscribe(subscriber, kind, &name);
        }
    }
}

/// A client's subscriptions in the hub; dropping it ends all of them.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    /// The client.
    pub subscriber: Arc<Subscriber>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(&self.subscriber);
    }
}

/// A subscription on its way.
#[derive(Debug)]
pub struct Confirmed(watch::Receiver<bool>);

impl Confirmed {
    /// Waits until the upstream has confirmed it.
    pub async fn wait(&mut self) {
        // A topic that nobody wants any more is never confirmed, and nobody waits for it.
        let _gone = self.0.wait_for(|active| *active).await;
    }
}
