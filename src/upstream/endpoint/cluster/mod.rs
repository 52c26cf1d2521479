//! The cluster that `upstream.url` may lead to: which node owns which slot is asked of all nodes again and again, and
//! learnt from every redirection.
//!
//! Invariants:
//! - of two claims to a slot the newer one counts (`nodes.rs`), whoever tells it;
//! - a node that the others agree has failed, and that owns nothing any more, is retired: connections to it end at
//!   once, and what it has not been sent goes to the owner.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>

pub(crate) mod history;
mod judge;
mod kin;
mod listener;
mod nodes;
pub(crate) mod redirect;
mod roster;
mod slots;
mod watch;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Endpoint;
use super::location::Location;
use super::not_told::NotTold;
use super::target::{Address, Host, Target};
use super::topology::{Members, Topology};
use history::{History, Standing};
use kin::{Chosen, Circumstances, View};
pub(crate) use slots::{Node, SlotMap};
use watch::Watch;

/// What is known of the cluster, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// Counts the maps there were, so that who has one knows whether it is the last.
    edition: AtomicU64,
    /// Counts the maps in which a slot was not any more where it had been.
    moves: AtomicU64,
    /// None where there is no cluster, or no node has answered yet.
    map: Mutex<Option<Arc<SlotMap>>>,
    /// `upstream.url` leads to a cluster, or did and leads to nobody yet.
    is_wanted: AtomicBool,
    /// Something has happened that the nodes should be asked about.
    doubted: Notify,
    /// When each slot was last seen with another owner, or on its way.
    history: Mutex<History>,
    /// The number of the note by which the last map was made, or found to be right.
    confirmed: AtomicU64,
    /// There is another map.
    changed: Notify,
}

impl Cluster {
    /// What is known of a cluster, if there is one, before anybody was asked.
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { is_wanted: is_wanted.into(), ..Self::default() }
    }

    /// Whether requests go to a cluster from now on is what `location` says. Its nodes take them until it is known who
    /// does instead.
    pub(super) fn is_wanted_at(&self, location: &Location) {
        let known = self.lock();
        let is_wanted = location.is_of_cluster().unwrap_or_else(|| self.is_there() && known.is_some());
        if self.is_wanted.swap(is_wanted, Ordering::AcqRel) != is_wanted {
            self.edition.fetch_add(1, Ordering::AcqRel);
            self.changed.notify_waiters();
        }
    }

    /// Waits until there is another map than when this was called.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Which servers there are is something else from now on: clients choose their lanes again.
    pub(super) fn is_another(&self) {
        self.edition.fetch_add(1, Ordering::AcqRel);
    }

    /// True where requests go to a cluster.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// The number of the last map; 0 while there has been none.
    #[inline]
    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Counts the maps in which a slot was not any more where it had been.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// The last map.
    pub(crate) fn map(&self) -> Option<Arc<SlotMap>> {
        self.lock().clone()
    }

    /// The node that takes this, if there is a cluster and its nodes are known.
    pub(crate) fn server(&self, slot: Option<u16>) -> Option<Arc<Endpoint>> {
        let map = self.map()?;
        Some(map.nodes.get(map.place(slot))?.endpoint.clone())
    }

    /// The nodes should be asked now.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_waiters();
    }

    /// The last map, and the number of the note by which it was found to be right.
    pub(crate) fn confirmed(&self) -> (Option<Arc<SlotMap>>, u64) {
        let map = self.lock();
        (map.clone(), self.confirmed.load(Ordering::Acquire))
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<SlotMap>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is the map, unless it is no other. `None` if the one before is not the `last` any more.
    fn replace_last(&self, last: Option<&Arc<SlotMap>>, next: SlotMap) -> Option<Arc<SlotMap>> {
        let mut known = self.lock();
        if known.as_ref().map(Arc::as_ptr) != last.map(Arc::as_ptr) {
            return None;
        }
        self.confirmed.store(next.noted, Ordering::Release);
        self.replace(&mut known, Some(next));
        known.clone()
    }

    /// From now on this is the map, unless it is no other.
    fn replace(&self, known: &mut Option<Arc<SlotMap>>, next: Option<SlotMap>) {
        let is_same = match (&*known, &next) {
            (Some(known), Some(next)) => known.is_like(next),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            if let Some(known) = known
                && next.as_ref().is_none_or(|next| known.is_left(next))
            {
                self.moves.fetch_add(1, Ordering::Release);
            }
            *known = next.map(Arc::new);
            self.edition.fetch_add(1, Ordering::Release);
            self.changed.notify_waiters();
        }
    }
}

/// A node has said that the one at `host` owns a slot; that one, if it is known and has not failed: what failed is said
/// to own by nodes that have not heard of it.
pub(crate) fn has_moved(upstream: &Endpoint, slot: u16, host: &Host) -> Option<Arc<Endpoint>> {
    let node = known_node(upstream, host)?;
    if node.is_retired() {
        upstream.cluster.doubt();
        return None;
    }
    let mut known = upstream.cluster.lock();
    let map = known.clone()?;
    if let Some(at) = map.node(host).filter(|at| map.owner(slot) != *at) {
        upstream.cluster.replace(&mut known, Some(map.with_owner(slot, at)));
        upstream.cluster.doubt();
    }
    Some(node)
}

/// The node at `host`. None if the nodes have not told of it yet, which are asked now: whatever a reply names, a script
/// may have made it up.
pub(crate) fn known_node(upstream: &Endpoint, host: &Host) -> Option<Arc<Endpoint>> {
    let map = upstream.cluster.map()?;
    let Some(at) = map.node(host) else {
        upstream.cluster.doubt();
        return None;
    };
    Some(map.nodes[at].endpoint.clone())
}

/// Notes what nodes have just said of all of them: the answers to CLUSTER NODES, and where each comes from. Where these
/// slots are by that.
pub(crate) fn note_views(upstream: &Endpoint, answers: &[(Host, Vec<u8>)], slots: &[u16]) -> Vec<Standing> {
    let topology = upstream.location.topology().0;
    let by_name = matches!(topology.as_deref(), Some(Topology::Cluster(members)) if members.access.is_by_name());
    let read = |(host, answer): &(Host, Vec<u8>)| nodes::read(&String::from_utf8_lossy(answer), host, by_name);
    let views: Vec<_> = answers.iter().map(read).collect();
    let views: Vec<View<'_>> = answers.iter().zip(&views).map(|((host, _), nodes)| View { host, nodes }).collect();
    let mut history = upstream.cluster.history();
    if let Some(chosen) = chosen(&history, &views, &[], false) {
        history.note(&nodes::picture(chosen.seen(&views)));
    }
    slots.iter().map(|slot| history.standing(*slot)).collect()
}

/// The nodes whose views count.
fn chosen(history: &History, views: &[View<'_>], hosts: &[Host], are_heard: bool) -> Option<Chosen> {
    let circumstances = Circumstances { hosts, are_heard, knows: history.roster.len() };
    kin::choose(views, |id| history.roster.knows(id), circumstances)
}

impl Members {
    /// The node there.
    fn target(&self, host: Host) -> Target {
        Target::new(Address::Net(host), self.access.clone())
    }

    /// A node that was not known before, and of which it is not known whose replica it is.
    fn node(&self, upstream: &Endpoint, host: Host, number: u32) -> Node {
        let endpoint = Arc::new(upstream.node(self.target(host.clone())));
        Node { number, endpoint, host, alias: None, master: None, is_master: true }
    }
}

/// Follows the cluster, whenever requests go to one.
#[derive(Debug)]
pub struct ClusterTask {
    endpoint: Arc<Endpoint>,
}

impl ClusterTask {
    /// It has asked nobody yet.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Runs for ever. Begun again after a panic, it asks every node again.
    pub async fn run(&mut self) {
        loop {
            let (topology, number) = self.endpoint.location.topology();
            let mut lookout = self.endpoint.location.lookout(0);
            if let Some(Topology::Cluster(members)) = topology.as_deref() {
                let mut watch = Watch::new(&self.endpoint, members, number);
                lookout.unless_left(number, watch.run()).await;
                watch.end();
            } else {
                lookout.replaced(number).await;
            }
        }
    }
}

/// A node that answers and knows of a cluster, and what an operator should know of it.
///
/// # Errors
/// Why there is none.
pub(super) async fn find(members: &Members, timeout: Duration) -> Result<(Target, Vec<String>), NotTold> {
    let (mut views, mut doubts, mut forbidden) = (Vec::new(), Vec::new(), None);
    for host in &members.hosts {
        match listener::ask_once(members.target(host.clone()), host, timeout).await {
            Ok(view) => views.push((host, view)),
            Err(why) => {
                doubts.push(format!("the node {host}: {why}"));
                forbidden = forbidden.or(Some(why).filter(|why| matches!(why, NotTold::Forbidden(_))));
            }
        }
    }
    let views: Vec<View<'_>> = views.iter().map(|(host, nodes)| View { host, nodes }).collect();
    let chosen = chosen(&History::default(), &views, &members.hosts, true).unwrap_or_default();
    let picture = nodes::picture(chosen.seen(&views));
    let first = views.iter().zip(&chosen.counts).find(|(_, counts)| **counts).map(|(view, _)| view.host);
    for (stranger, first) in chosen.strangers(&views).zip(first.into_iter().cycle()) {
        let host = stranger.host;
        doubts.push(format!("the node {host} belongs to another cluster than {first}, or to none: it is left out"));
    }
    let Some(home) = picture.owners.iter().flatten().next() else {
        // They have the same users: one word is enough.
        return Err(forbidden.unwrap_or_else(|| NotTold::Silent(doubts.join("; "))));
    };
    let unowned = picture.owners.iter().filter(|owner| owner.is_none()).count();
    if unowned > 0 {
        doubts.push(format!("{unowned} slots have no owner: commands for their keys are answered with CLUSTERDOWN"));
    }
    Ok((members.target(picture.nodes[*home].host.clone()), doubts))
}

/// The nodes that own slots, and how the slots lie: which node has which, and which are on their way.
///
/// # Errors
/// Why they are not known.
pub(super) async fn owners(members: &Members, timeout: Duration) -> Result<(Vec<Target>, String), NotTold> {
    // A node that answers knows the others.
    let (home, _) = find(members, timeout).await?;
    let host = home.host().unwrap_or_default();
    let seen = listener::ask_once(home, &host, timeout).await?;
    let picture = nodes::picture(seen.iter());
    let unowned = picture.owners.iter().filter(|owner| owner.is_none()).count();
    if unowned > 0 {
        let why = format!("{unowned} slots have no owner: what keys they have cannot be known");
        return Err(NotTold::Silent(why));
    }
    let owning: BTreeSet<usize> = picture.owners.iter().flatten().copied().collect();
    let moving: Vec<_> = picture.nodes.iter().map(|node| (&node.id, &node.moving)).collect();
    let layout = format!("{:?} {moving:?}", picture.owners.iter().flatten().map(|at| &picture.nodes[*at].id));
    Ok((owning.into_iter().map(|at| members.target(picture.nodes[at].host.clone())).collect(), layout))
}
