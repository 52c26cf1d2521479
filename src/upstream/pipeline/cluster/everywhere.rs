//! The nodes that a command goes to which names no keys and concerns all of a cluster.

use std::sync::Arc;

use super::ClusterLane;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::cluster::SlotMap;
use crate::upstream::endpoint::cluster::known_node;
use crate::upstream::endpoint::target::Host;
use crate::upstream::pipeline::batch::{Stop, To};

impl ClusterLane {
    /// Every node that is not known to have failed, the home first. An owner of slots is reached by one of them: should
    /// another node take its place, that one answers. Where nobody owns slots the home speaks for all.
    pub(in crate::upstream::pipeline) fn everywhere(&self, replicas: bool) -> Vec<Stop> {
        let Some(map) = &self.map else { return vec![Stop { to: To::Home, counts: true }] };
        let first = map.first_slots();
        let mut stops: Vec<(usize, Stop)> = Vec::with_capacity(first.len());
        for (at, (node, slot)) in map.nodes.iter().zip(first).enumerate() {
            match slot {
                Some(slot) => stops.push((at, Stop { to: To::Slot(slot), counts: true })),
                None if node.endpoint.is_retired() || !(replicas || node.is_master) => {}
                None => stops.push((at, Stop { to: To::Node(node.number), counts: false })),
            }
        }
        stops.sort_by_key(|(at, _)| *at != map.home());
        if !stops.iter().any(|(_, stop)| stop.counts) {
            let home = Stop { to: To::Home, counts: true };
            stops.retain(|(at, _)| *at != map.home());
            stops.insert(0, (map.home(), home));
        }
        stops.into_iter().map(|(_, stop)| stop).collect()
    }

    /// False where there is one server, and replicas that are read.
    pub(in crate::upstream::pipeline) fn is_of_cluster(&self) -> bool {
        self.map.is_some() || self.servers.upstream.cluster.is_there()
    }

    /// False before a node has answered.
    pub(in crate::upstream::pipeline) const fn knows_nodes(&self) -> bool {
        self.map.is_some()
    }

    /// The owners of slots, by their numbers, and the note that says which these are.
    pub(crate) fn owners(&self) -> (u64, Vec<u32>) {
        let Some(map) = &self.map else { return (0, Vec::new()) };
        let (newest, confirmed) = self.servers.upstream.cluster.confirmed();
        let is_newest = newest.is_some_and(|newest| Arc::ptr_eq(&newest, map));
        let owners = map.masters().into_iter().map(|at| map.nodes[at].number).collect();
        (if is_newest { confirmed } else { map.noted }, owners)
    }

    /// True when a node is a master of the cluster, by the last map. If it is none, whoever has come to it on a tour
    /// reads its slots behind the last one.
    pub(crate) fn has_master(&self, number: u32) -> bool {
        let newest = self.servers.upstream.cluster.map();
        let node = newest.as_ref().and_then(|map| map.numbered(number));
        let is_there = node.is_some_and(|node| node.is_master && !node.endpoint.is_retired());
        if !is_there {
            self.servers.upstream.cluster.history().is_left_out(number);
        }
        is_there
    }

    /// The node with this number.
    pub(super) fn numbered(&self, map: &SlotMap, number: u32) -> Option<Arc<Endpoint>> {
        let known = map.numbered(number).map(|node| node.endpoint.clone()).filter(|node| !node.is_retired());
        known.or_else(|| {
            let newest = self.servers.upstream.cluster.map()?;
            newest.numbered(number).map(|node| node.endpoint.clone())
        })
    }

    /// How the node there is reached.
    pub(crate) fn at(&self, host: &Host) -> Option<To> {
        let upstream = &self.servers.upstream;
        known_node(upstream, host)?;
        let newest = upstream.cluster.map()?;
        newest.node(host).map(|at| To::Node(newest.nodes[at].number))
    }

    /// Where the node is that takes this.
    pub(crate) fn host(&self, to: To) -> Host {
        self.server(self.map.as_deref(), to).host()
    }

    /// The upstream as a whole.
    pub(crate) fn upstream(&self) -> &Endpoint {
        &self.servers.upstream
    }
}
