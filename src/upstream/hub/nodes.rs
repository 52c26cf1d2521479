//! Which server has which subscription. Where the upstream is no cluster, one has them all; in a cluster the home node
//! has what any node could have, and the others what only they tell (`placement.rs`). When slots or the home move,
//! subscriptions move with them.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::connection::Line;
use super::link::Link;
use super::placement::{Reach, reach};
use super::table::Topic;
use crate::resp::pubsub::Kind;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::cluster::SlotMap;

/// The servers, and what they were chosen by.
#[derive(Debug)]
pub(super) struct Nodes {
    upstream: Arc<Endpoint>,
    home: Arc<Link>,
    /// The other nodes of a cluster that have subscriptions.
    others: Vec<Arc<Link>>,
    /// The map that subscriptions go by, and its number.
    map: Option<Arc<SlotMap>>,
    edition: u64,
    opened: UnboundedSender<Line>,
    is_counted: bool,
}

impl Nodes {
    pub(super) fn new(
        upstream: Arc<Endpoint>,
        home: Arc<Link>,
        opened: UnboundedSender<Line>,
        is_counted: bool,
    ) -> Self {
        Self { upstream, home, others: Vec::new(), map: None, edition: 0, opened, is_counted }
    }

    /// Goes by the last map; those whose server another one has taken the place of are not told everything any more.
    pub(super) fn catch_up(&mut self) -> Vec<Arc<Link>> {
        let edition = self.upstream.cluster.edition();
        if edition == self.edition {
            return Vec::new();
        }
        (self.edition, self.map) = (edition, self.upstream.cluster.map());
        self.rearrange()
    }

    /// The servers that a topic is subscribed at.
    pub(super) fn of(&mut self, topic: &Topic) -> Vec<Arc<Link>> {
        match reach(topic) {
            Reach::Any => vec![self.home.clone()],
            Reach::Owner(slot) => vec![self.owner(slot)],
            Reach::Each => {
                let others = self.other_masters();
                [self.home.clone()].into_iter().chain(others.iter().map(|server| self.link(server))).collect()
            }
        }
    }

    fn owner(&mut self, slot: u16) -> Arc<Link> {
        let Some(map) = &self.map else { return self.home.clone() };
        let at = map.owner(slot);
        match map.nodes.get(at) {
            Some(node) if at != map.home() => self.link(&node.endpoint.clone()),
            _ => self.home.clone(),
        }
    }

    /// The masters that are not the home.
    fn other_masters(&self) -> Vec<Arc<Endpoint>> {
        let Some(map) = &self.map else { return Vec::new() };
        let others = map.masters().into_iter().filter(|at| *at != map.home());
        others.filter_map(|at| Some(map.nodes.get(at)?.endpoint.clone())).collect()
    }

    fn link(&mut self, server: &Arc<Endpoint>) -> Arc<Link> {
        if let Some(known) = self.others.iter().find(|link| Arc::ptr_eq(&link.server, server)) {
            return known.clone();
        }
        let (link, wishes) = Link::open(server.clone(), false, self.is_counted);
        // The task that runs it lives as long as its hub.
        let _sent = self.opened.send(Line::new(link.clone(), wishes));
        self.others.push(link.clone());
        link
    }

    fn rearrange(&mut self) -> Vec<Arc<Link>> {
        let mut moved = Vec::new();
        for from in [self.home.clone()].into_iter().chain(self.others.clone()) {
            for topic in from.shards() {
                let to = self.of(&topic).swap_remove(0);
                if !Arc::ptr_eq(&from, &to)
                    && let Some(entry) = from.take(&topic)
                {
                    to.give(topic, entry);
                    moved.push(to);
                }
            }
        }
        self.follow_masters();
        self.others.retain(|link| {
            let is_used = !link.table().is_empty() || !link.server.is_retired();
            if !is_used {
                link.end();
            }
            is_used
        });
        moved
    }

    /// What each master tells of its own keys is heard at those that are masters now.
    fn follow_masters(&mut self) {
        let told = |topic: &Topic| reach(topic) == Reach::Each;
        let masters: Vec<Arc<Link>> = self.other_masters().iter().map(|server| self.link(server)).collect();
        let wanted = self.home.table().topics(told);
        for link in &self.others {
            let is_master = masters.iter().any(|master| Arc::ptr_eq(master, link));
            for topic in link.table().topics(|topic| topic.0 != Kind::Shard) {
                if !is_master || !wanted.contains(&topic) {
                    link.take(&topic);
                }
            }
        }
        for topic in &wanted {
            let members = self.home.members(topic);
            for link in &masters {
                members.iter().for_each(|member| drop(link.join(topic, member)));
            }
        }
    }
}
