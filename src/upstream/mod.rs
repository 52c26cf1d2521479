//! The Redis behind the sidecar: lanes that all clients of a worker share, pinned connections that are lent to one
//! client, and shared subscriptions. Requests and replies pass as raw bytes. Knows nothing of routes or owned keys.

mod endpoint;
mod hub;
mod pinned;
mod pipeline;
mod tour;
mod trail;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use endpoint::cluster::ClusterTask;
pub use endpoint::error::ConnectError;
pub use endpoint::greeting::PING;
pub use endpoint::group::{Credentials, Group, Login};
pub use endpoint::health::{probe, watch};
pub use endpoint::logins::Close;
pub use endpoint::near::NearTask;
pub use endpoint::not_told::NotTold;
pub use endpoint::private_server::{NoServer, PrivateServer};
pub use endpoint::replicas::ReplicaTask;
pub use endpoint::sentinel::SentinelTask;
pub use endpoint::topology::Topology;
pub use endpoint::waits::{UNBLOCK_AGAIN, is_unblocked};
pub use endpoint::walk::{Held, KeyServer, Owners};
pub use endpoint::{Endpoint, LONGEST_PAUSE, Transaction};
pub use hub::{Ceased, Confirmed, Hub, Membership, Owner, Subscriber};
pub use pinned::pools::Member;
pub use pinned::{Lost, Pinned};
pub use pipeline::account::{Account, Kept};
pub use pipeline::batch::{Asked, Batch, Expect, Loss, Stop, To};
pub use pipeline::cluster::{Rider, Unheard};
pub use pipeline::inbox::Inbox;
pub use pipeline::lane::Lane;
pub use pipeline::lane_ticket::{Broken, Chunk};
pub use pipeline::subscriptions::Follower;
pub use pipeline::ticket::Ticket;
pub use tour::{Surveyor, Tour};
pub use trail::{Onward, Trail};

use crate::command::{Spec, Table};
use crate::near::Ground;
use crate::telemetry::client_memory::Holding;
use pinned::pool::Pool;
use pinned::pools::Pools;
use pipeline::cluster::ClusterLane;
use pipeline::server_lane::ServerLane;
use pipeline::servers::Servers;

/// How often idle connections are looked at.
const LOOK_AT_LEAST: Duration = Duration::from_millis(20);
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

/// One worker thread's way to the upstream.
#[derive(Debug)]
pub struct Upstream {
    endpoint: Arc<Endpoint>,
    servers: Rc<Servers>,
    pools: Rc<Pools>,
    /// This thread's look at the upstream's command table, and the table's number.
    commands: RefCell<(u64, Arc<Table>)>,
}

impl Upstream {
    /// No connection is opened before one is needed.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            servers: Rc::new(Servers::new(endpoint.clone())),
            pools: Rc::default(),
            commands: RefCell::new(endpoint.commands.table()),
            endpoint,
        }
    }

    /// The lane of a client that has nothing under way: the same one while its group is the same and others' requests
    /// do not hold that up.
    #[must_use]
    pub fn lane(&self, group: &Group, client: u64, account: &Rc<Account>) -> Lane {
        if self.endpoint.is_several() {
            return self.cluster_lane(group, client, account, false);
        }
        Lane::Server(self.servers.lanes(&self.endpoint).lane(group, client, account))
    }

    fn cluster_lane(&self, group: &Group, client: u64, account: &Rc<Account>, is_alone: bool) -> Lane {
        let rider = Rider { group: group.clone(), client, account: account.clone(), is_alone, unheard: None };
        Lane::Cluster(Rc::new(ClusterLane::new(self.servers.clone(), rider)))
    }

    /// The lane of a client in a cluster that has connections for itself: over these to the nodes that they lead to,
    /// and over the shared lanes to the others.
    #[must_use]
    pub fn lane_around(&self, own: &[&Pinned], rider: Rider) -> Lane {
        let lane = |pinned: &&Pinned| match pinned.lane() {
            Lane::Server(lane) => Some((pinned.endpoint.clone(), lane.clone())),
            Lane::Cluster(_) => None,
        };
        let own = own.iter().filter_map(lane).collect();
        Lane::Cluster(Rc::new(ClusterLane::around(self.servers.clone(), rider, own)))
    }

    /// Counts what the upstream has been: while the number is the same, a client may go on with its lane.
    #[must_use]
    #[inline]
    pub fn edition(&self) -> u64 {
        self.endpoint.cluster.edition()
    }

    /// What the upstream is now, for what is kept of it.
    #[must_use]
    pub fn ground(&self) -> Ground {
        self.endpoint.ground()
    }

    /// True where the upstream is a cluster.
    #[must_use]
    #[inline]
    pub fn is_cluster(&self) -> bool {
        self.endpoint.cluster.is_there()
    }

    /// True where others than an operator say which server takes commands.
    #[must_use]
    pub fn may_move(&self) -> bool {
        !self.endpoint.location.is_single()
    }

    /// Waits until the nodes of the cluster are known, as long as any command waits for an upstream that is away.
    pub async fn nodes_known(&self) {
        let (cluster, circuit) = (&self.endpoint.cluster, &self.endpoint.circuit);
        let known = async {
            loop {
                let changed = cluster.changed();
                if cluster.map().is_some() || !cluster.is_there() || circuit.is_open() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(self.patience(), known) => {}
            () = self.endpoint.permits.closing() => {}
        }
    }

    /// True where reads may go to replicas.
    #[must_use]
    #[inline]
    pub fn reads_from_replicas(&self) -> bool {
        self.endpoint.replicas.are_read()
    }

    /// The server that takes this.
    fn server(&self, to: To) -> Arc<Endpoint> {
        if let To::Node(number) = to
            && let Some(node) = self.endpoint.cluster.map().and_then(|map| Some(map.numbered(number)?.endpoint.clone()))
        {
            return node;
        }
        self.endpoint.cluster.server(to.slot()).unwrap_or_else(|| self.endpoint.clone())
    }

    fn pool(&self, to: To) -> Rc<Pool> {
        self.pool_of(self.server(to))
    }

    fn pool_of(&self, server: Arc<Endpoint>) -> Rc<Pool> {
        self.pools.of(server)
    }

    /// A lane to this node of a cluster, if it is one of its nodes; without a node, as any other request goes.
    #[must_use]
    pub fn lane_to(&self, node: Option<&str>, group: &Group, client: u64, account: &Rc<Account>) -> Option<Lane> {
        let Some(name) = node else { return Some(self.lane(group, client, account)) };
        let map = self.endpoint.cluster.map()?;
        let node = map.nodes.iter().find(|node| node.host.to_string() == name)?;
        Some(Lane::Server(self.servers.lanes(&node.endpoint).lane(group, client, account)))
    }

    /// A lane for one client alone, if there is room for what is not necessary.
    #[must_use]
    pub fn private_lane(&self, group: &Group, client: u64, account: &Rc<Account>) -> Option<Lane> {
        if self.endpoint.is_several() {
            return self.has_spare().then(|| self.cluster_lane(group, client, account, true));
        }
        let permit = self.endpoint.permits.enter_if_open()?;
        Some(Lane::Server(ServerLane::start_private(self.endpoint.clone(), group.clone(), account, permit)))
    }

    /// Notes that the upstream has let a client in with this login: what is open for it is closed when the last such
    /// client has gone, and `close` is called when the upstream does not take the login any more.
    #[must_use]
    pub fn enter(&self, login: &Login, close: Close) -> Option<Member> {
        self.pools.enter(&self.endpoint.logins, login, close)
    }

    /// Closes, for ever, what has been idle for `upstream.pinned_idle_time`, and wakes whoever waits for a beat.
    pub async fn tend(&self) {
        tokio::join!(self.close_idle(), self.servers.holding.beat());
    }

    async fn close_idle(&self) {
        let most = self.endpoint.settings.pinned_idle_time;
        let mut ticker = tokio::time::interval((most / 4).clamp(LOOK_AT_LEAST, LOOK_AT_MOST));
        loop {
            ticker.tick().await;
            self.servers.tend(most);
            self.pools.tend();
        }
    }

    /// The row of a command or, when `name` is a container, of its subcommand `sub` if there is one, by what is known
    /// of the upstream's commands.
    #[must_use]
    pub fn lookup(&self, name: &[u8], sub: &[u8]) -> Option<&'static Spec> {
        let mut commands = self.commands.borrow_mut();
        if commands.0 != self.endpoint.commands.edition() {
            *commands = self.endpoint.commands.table();
        }
        commands.1.lookup(name, sub)
    }

    /// The server that the connections lead to.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// How long a command waits for an upstream that does not answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.endpoint.settings.queue_timeout
    }

    /// The pause before a client asks again for what it cannot do without.
    #[must_use]
    pub fn pause(&self) -> Duration {
        endpoint::circuit::backoff(self.endpoint.circuit.attempts().max(1))
    }

    /// True while pinned connections may be had for what is not necessary.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.endpoint.permits.is_open()
    }

    /// A connection for one client alone: an idle one, or a new one.
    ///
    /// # Errors
    /// [`ConnectError`], also when the upstream refuses the group's database or login.
    pub async fn pin(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.pin_at(To::Home, group, account).await
    }

    /// The same, at the server that takes this.
    ///
    /// # Errors
    /// [`ConnectError`], also when the upstream refuses the group's database or login.
    pub async fn pin_at(&self, to: To, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        loop {
            let pool = self.pool(to);
            match pool.take(group, account).await {
                // Another node has what this one had.
                Err(ConnectError::Retired) if !Rc::ptr_eq(&pool, &self.pool(to)) => {}
                pinned => return pinned,
            }
        }
    }

    /// Another connection to where `pinned` leads.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn pin_with(
        &self,
        pinned: &Pinned,
        group: &Group,
        account: &Rc<Account>,
    ) -> Result<Pinned, ConnectError> {
        self.pool_of(pinned.endpoint.clone()).take(group, account).await
    }

    /// Counts how often slots of a cluster were not any more where they had been.
    #[must_use]
    #[inline]
    pub fn moves(&self) -> u64 {
        self.endpoint.cluster.moves()
    }

    /// Waits until the upstream is not what it was when it had these numbers.
    pub fn outdates(&self, edition: u64, moves: u64) -> impl Future<Output = ()> + use<> {
        let endpoint = self.endpoint.clone();
        async move {
            loop {
                let changed = endpoint.cluster.changed();
                if endpoint.cluster.edition() != edition || endpoint.cluster.moves() != moves {
                    return;
                }
                changed.await;
            }
        }
    }

    /// A place in a hub for one client alone, for which at most so many bytes of messages may wait.
    #[must_use]
    pub fn own_hub(&self, owner: Owner, most_waiting: usize, holding: Arc<Holding>) -> Membership {
        let client = owner.client;
        let (hub, task) = Hub::new(self.endpoint.clone(), most_waiting, Some(owner));
        let mut membership = hub.member(client, holding);
        membership.task = Some(task.start());
        membership
    }

    /// The same for a command that needs no database and must reach an upstream that is busy.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn pin_aside(&self, to: To, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.pool(to).take_aside(&Group { db: 0, ..group.clone() }, account).await
    }
}
