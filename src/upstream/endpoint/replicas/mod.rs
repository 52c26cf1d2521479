//! The replicas that reads may go to, and, of several plain servers, which one is the primary: every server is asked
//! again and again about its part in replication.
//!
//! Invariant: a replica is read only while it is known to have everything that its primary had `upstream.read_lag` ago.
//! That is known for a moment (`history.rs`, `readers.rs`): who is not heard any more is not read any more.

mod history;
mod listener;
pub(crate) mod readers;
mod roles;
mod said;
mod shards;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Endpoint;
use super::target::{Host, Target};
use super::topology::{Hosts, Topology};
use crate::config::{self, ReadFrom};
use readers::{Reader, Readers};
use watch::Watch;

/// What is known of replicas, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    /// Reads may go to some.
    are_read: AtomicBool,
    readers: ArcSwap<Readers>,
    /// Those that sentinels tell of.
    told: Mutex<Vec<Host>>,
}

impl Replicas {
    pub(super) fn new(settings: &config::Upstream, topology: Option<&Topology>) -> Self {
        let replicas = Self::default();
        replicas.are_of(settings, topology);
        replicas
    }

    /// `upstream.url` leads there from now on. True if that makes a difference to where reads go.
    pub(super) fn are_of(&self, settings: &config::Upstream, topology: Option<&Topology>) -> bool {
        let may_have_some = topology.is_some_and(|topology| !matches!(topology, Topology::Single(_)));
        let are_read = may_have_some && settings.read_from != ReadFrom::Primary && !settings.read_keys.is_empty();
        self.are_read.swap(are_read, Ordering::AcqRel) != are_read
    }

    /// True when reads may go to replicas.
    #[inline]
    pub(crate) fn are_read(&self) -> bool {
        self.are_read.load(Ordering::Relaxed)
    }

    /// Those that may be read now.
    pub(crate) fn readers(&self) -> Arc<Readers> {
        self.readers.load_full()
    }

    /// Sentinels tell of these.
    pub(super) fn are_told(&self, hosts: Vec<Host>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    fn told(&self) -> Vec<Host> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, next: Readers) {
        self.readers.store(Arc::new(next));
    }
}

impl Endpoint {
    /// A replica that reads may go to.
    fn reader(&self, target: Target, is_of_cluster: bool) -> Reader {
        let server = self.metrics.servers.of(&target.name());
        // Its users are its own: what it refuses says nothing of who may be in.
        let floor = Arc::<AtomicU64>::default();
        let target = Target { is_reader: is_of_cluster, floor: Some(floor.clone()), ..target };
        let endpoint = Self { logins: Arc::default(), ..self.node(target) };
        Reader::new(endpoint, floor, server, is_of_cluster)
    }
}

/// Follows the servers, whenever reads may go to replicas, or `upstream.url` names several servers.
#[derive(Debug)]
pub struct ReplicaTask {
    endpoint: Arc<Endpoint>,
}

impl ReplicaTask {
    /// It has asked nobody yet.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Runs for ever. Begun again after a panic, it asks every server again.
    pub async fn run(&mut self) {
        loop {
            let (topology, number) = self.endpoint.location.topology();
            let mut lookout = self.endpoint.location.lookout(0);
            let is_needed = match topology.as_deref() {
                Some(Topology::Hosts(_)) => true,
                Some(_) => self.endpoint.replicas.are_read(),
                None => false,
            };
            if let (true, Some(topology)) = (is_needed, topology.as_deref()) {
                let mut watch = Watch::new(&self.endpoint, topology, number);
                lookout.unless_replaced(number, watch.run()).await;
                watch.end();
            } else {
                lookout.replaced(number).await;
            }
        }
    }
}

/// The primary of several servers, and what an operator should know of the others.
///
/// # Errors
/// Why there is none.
pub(super) async fn find(servers: &Hosts, timeout: Duration) -> Result<(Target, Vec<String>), String> {
    let (mut heard, mut doubts) = (roles::Heard::new(), Vec::new());
    for host in &servers.hosts {
        let said = listener::ask_once(&servers.target(host.clone()), timeout).await;
        if let Err(why) = &said {
            doubts.push(format!("the server {host}: {why}"));
        }
        heard.insert(host.clone(), Some(said.ok()));
    }
    let primaries = heard.values().flatten().flatten().filter(|said| said.is_master).count();
    if primaries > 1 {
        doubts.push(format!(
            "{primaries} of the servers say that they are primaries, and what one is told the others do not know: the \
             one that most replicas follow is used, and another one when that is away"
        ));
    }
    match roles::primary(&servers.hosts, &heard, None) {
        Some(host) => Ok((servers.primary(host.clone()), doubts)),
        None if doubts.is_empty() => Err("none of the servers is a primary".to_owned()),
        None => Err(doubts.join("; ")),
    }
}
