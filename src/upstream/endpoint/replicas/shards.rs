//! Which servers there are, and who follows whom, by what `upstream.url` leads to.

use std::sync::{Arc, Weak};

use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::target::{Address, Host, Target};
use crate::upstream::endpoint::topology::Topology;

/// A primary, and the replicas that have what it has.
pub(super) struct Shard {
    /// What writes go to.
    pub(super) endpoint: Weak<Endpoint>,
    pub(super) primary: Host,
    pub(super) replicas: Vec<Host>,
}

/// All of them, as far as they are known now, of the topology of this number.
pub(super) fn shards(endpoint: &Arc<Endpoint>, topology: &Topology, number: u64) -> Vec<Shard> {
    match topology {
        Topology::Single(_) => Vec::new(),
        Topology::Hosts(servers) => one(endpoint, number, servers.hosts.clone()),
        Topology::Sentinels(_) => one(endpoint, number, endpoint.replicas.told()),
        Topology::Cluster(_) => of_cluster(endpoint),
    }
}

/// The one server that takes commands, and others.
fn one(endpoint: &Arc<Endpoint>, number: u64, others: Vec<Host>) -> Vec<Shard> {
    let target = endpoint.location.target_in(number);
    let Some(primary) = target.and_then(|target| target.host()) else { return Vec::new() };
    let replicas = others.into_iter().filter(|host| *host != primary).collect();
    vec![Shard { endpoint: Arc::downgrade(endpoint), primary, replicas }]
}

fn of_cluster(endpoint: &Endpoint) -> Vec<Shard> {
    let Some(map) = endpoint.cluster.map() else { return Vec::new() };
    let shard = |at: usize| {
        let primary = &map.nodes[at];
        let replicas = map.nodes.iter().filter(|node| !node.is_master && node.master == Some(at));
        Shard {
            endpoint: Arc::downgrade(&primary.endpoint),
            primary: primary.host.clone(),
            replicas: replicas.map(|node| node.host.clone()).collect(),
        }
    };
    map.masters().into_iter().map(shard).collect()
}

/// A server of the topology.
pub(super) fn target(topology: &Topology, host: &Host) -> Target {
    let access = match topology {
        Topology::Single(target) => &target.access,
        Topology::Hosts(servers) => &servers.access,
        Topology::Sentinels(sentinels) => &sentinels.master,
        Topology::Cluster(members) => &members.access,
    };
    Target::new(Address::Net(host.clone()), access.clone())
}
