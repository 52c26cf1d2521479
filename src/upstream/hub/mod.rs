//! Subscriptions that do not go over a client's own lane: with `pubsub.mode = "shared"` those of the whole process, and
//! behind a cluster those of one client, whose channels are at several nodes.
//!
//! ```text
//! client: subscribe -> table (who wants what) -> wishes -> connection: SUBSCRIBE -> confirmation -> table -> client
//! upstream: message -> connection -> table -> each subscriber's outbox (the payload is never copied) -> client
//! ```
//!
//! Each server has its table and its connection (`link.rs`); which server has what is in `nodes.rs`.

mod connection;
mod link;
mod nodes;
mod owner;
mod placement;
mod questions;
mod subscriber;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use owner::Owner;
pub use subscriber::{Ceased, Subscriber};

use super::endpoint::Endpoint;
use crate::resp::pubsub::{GAP, GAP_MESSAGE, Kind};
use crate::telemetry::client_memory::Holding;
use crate::telemetry::clock::Moment;
use crate::telemetry::{LastingPart, caught};
use connection::Line;
use link::Link;
use nodes::Nodes;
use table::Standing;

/// Many clients' subscriptions, or one client's.
#[derive(Debug)]
pub struct Hub {
    home: Arc<Link>,
    nodes: Mutex<Nodes>,
    upstream: Arc<Endpoint>,
    most_waiting: usize,
    /// The client, if it is for one.
    owner: Option<Owner>,
}

/// The part of the hub that its task holds.
#[derive(Debug)]
pub struct HubTask {
    hub: Arc<Hub>,
    home: Line,
    opened: UnboundedReceiver<Line>,
    others: JoinSet<()>,
}

impl Hub {
    /// A hub for everybody, or for one client, and what [`HubTask::run`] needs.
    #[must_use]
    pub fn new(upstream: Arc<Endpoint>, most_waiting: usize, owner: Option<Owner>) -> (Arc<Self>, HubTask) {
        let (sender, opened) = unbounded_channel();
        let is_counted = owner.is_none();
        let (home, wishes) = Link::open(upstream.clone(), true, is_counted);
        let nodes = Mutex::new(Nodes::new(upstream.clone(), home.clone(), sender, is_counted));
        let line = Line::new(home.clone(), wishes);
        let hub = Arc::new(Self { home, nodes, upstream, most_waiting, owner });
        (hub.clone(), HubTask { hub, home: line, opened, others: JoinSet::new() })
    }

    /// Where subscriptions are made now.
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = nodes.catch_up();
        if let Some(owner) = self.owner.as_ref().filter(|_| !moved.is_empty()) {
            owner.log_loss("the slot of a sharded channel has another owner");
            moved.iter().for_each(|link| self.close_if_wanted(link));
        }
        nodes
    }

    /// Subscribes, and tells when the upstream has confirmed it: what is published after that arrives.
    pub fn subscribe(&self, subscriber: &Arc<Subscriber>, kind: Kind, name: &Bytes) -> Confirmed {
        let topic = (kind, name.clone());
        let mut nodes = self.nodes();
        Confirmed(nodes.of(&topic).iter().map(|link| link.join(&topic, subscriber)).collect())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, subscriber: &Arc<Subscriber>, kind: Kind, name: &Bytes) {
        let topic = (kind, name.clone());
        let mut nodes = self.nodes();
        nodes.of(&topic).iter().for_each(|link| link.leave(&topic, subscriber.id));
    }

    /// A new subscriber, for which `pubsub.subscriber_output` bytes may wait.
    #[must_use]
    pub fn member(self: &Arc<Self>, client: u64, holding: Arc<Holding>) -> Membership {
        let subscriber = Arc::new(Subscriber::new(client, self.most_waiting, holding));
        Membership { hub: self.clone(), subscriber, task: None }
    }

    /// Ends all subscriptions of a subscriber.
    fn leave(&self, subscriber: &Arc<Subscriber>) {
        for (kind, name) in subscriber.topics() {
            self.unsubscribe(subscriber, kind, &name);
        }
    }

    /// Messages may have been missed at a server, and are not any more: who listens for that is told.
    fn tell_gap(&self, link: &Link) {
        if let Some(owner) = &self.owner {
            owner.metrics.subscribers_restored.inc();
        }
        let missed = link.everybody();
        let notice = Bytes::from_static(GAP_MESSAGE);
        let listening = self.home.members(&(Kind::Channel, Bytes::from_static(GAP)));
        let told = listening.iter().filter(|member| missed.contains_key(&member.id));
        let came = Moment::now();
        told.for_each(|member| member.deliver(notice.clone(), came));
    }

    /// Messages may be missed at a server: a client that wants to be closed then is.
    fn close_if_wanted(&self, link: &Link) {
        if self.owner.as_ref().is_some_and(|owner| owner.is_closed_on_loss) {
            link.everybody().values().for_each(|member| member.close());
        }
    }
}

impl HubTask {
    /// Runs for ever. Does not connect before the first subscription. Begun again after a panic, the home has no
    /// connection.
    pub async fn run(&mut self) {
        let Self { hub, home, opened, others } = self;
        let mut home = std::pin::pin!(home.run(hub.clone()));
        loop {
            let changed = hub.upstream.cluster.changed();
            drop(hub.nodes());
            tokio::select! {
                () = &mut home => return,
                () = changed => {}
                Some(line) = opened.recv() => {
                    others.spawn(keep(line, hub.clone()));
                }
                Some(_ended) = others.join_next() => {}
            }
        }
    }

    /// Runs on this thread, for as long as the client is in the hub.
    pub(super) fn start(mut self) -> Running {
        let panics = self.hub.upstream.panics.clone();
        let task = async move { while caught(LastingPart::Subscriptions, &panics, self.run()).await.is_none() {} };
        Running(tokio::task::spawn_local(task).abort_handle())
    }
}

/// Serves one node, again after a panic.
async fn keep(mut line: Line, hub: Arc<Hub>) {
    let panics = hub.upstream.panics.clone();
    while caught(LastingPart::Subscriptions, &panics, line.run(hub.clone())).await.is_none() {}
}

/// The task of a client's own hub; it ends with this.
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client's subscriptions in a hub; dropping it ends all of them.
#[derive(Debug)]
pub struct Membership {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The client.
    pub subscriber: Arc<Subscriber>,
    /// What keeps the hub going, of a hub for this client alone.
    pub task: Option<Running>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.task.is_none() {
            self.hub.leave(&self.subscriber);
        }
    }
}

/// A subscription on its way; it may be at several servers.
#[derive(Debug)]
pub struct Confirmed(Vec<watch::Receiver<Standing>>);

impl Confirmed {
    /// Waits until the upstream has confirmed it.
    ///
    /// # Errors
    /// The upstream's, where it does not.
    pub async fn wait(&mut self) -> Result<(), String> {
        for standing in &mut self.0 {
            // A topic that nobody wants any more is never confirmed, and nobody waits for it.
            if let Ok(said) = standing.wait_for(|standing| *standing != Standing::Awaited).await
                && let Standing::Refused(error) = &*said
            {
                return Err(error.to_string());
            }
        }
        Ok(())
    }
}
