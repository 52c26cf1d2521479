//! The watch over the cluster of one `upstream.url`: what its nodes say becomes the map that requests go by.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};

use super::judge::judge;
use super::listener::{Listener, Report};
use super::nodes::{Picture, Seen, picture};
use super::slots::{Node, SlotMap};
use crate::telemetry::{LastingPart, caught};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::target::Host;
use crate::upstream::endpoint::topology::Members;

/// Reports that may wait; the listeners wait with more.
const REPORTS: usize = 64;

/// One node that is asked.
#[derive(Debug)]
struct Asked {
    listener: AbortHandle,
    /// What it said last; none while it does not answer.
    view: Option<Vec<Seen>>,
    /// It has been logged that it does not answer.
    is_missed: bool,
}

pub(super) struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    members: &'a Members,
    /// The topology's number.
    number: u64,
    asked: BTreeMap<Host, Asked>,
    listeners: JoinSet<()>,
    reports: (Sender<Report>, Receiver<Report>),
}

impl<'a> Watch<'a> {
    pub(super) fn new(endpoint: &'a Arc<Endpoint>, members: &'a Members, number: u64) -> Self {
        let (asked, listeners, reports) = (BTreeMap::new(), JoinSet::new(), channel(REPORTS));
        let mut watch = Self { endpoint, members, number, asked, listeners, reports };
        members.hosts.iter().for_each(|host| watch.ask(host.clone()));
        watch
    }

    /// The node there is asked from now on.
    fn ask(&mut self, host: Host) {
        if self.asked.contains_key(&host) {
            return;
        }
        let listener = Listener {
            target: self.members.target(host.clone()),
            host: host.clone(),
            endpoint: self.endpoint.clone(),
            reports: self.reports.0.clone(),
        };
        let panics = self.endpoint.panics.clone();
        let listener = self.listeners.spawn(async move {
            caught(LastingPart::Cluster, &panics, listener.run()).await;
        });
        self.asked.insert(host, Asked { listener, view: None, is_missed: false });
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        let mut judged = pin!(judge(self.endpoint));
        loop {
            tokio::select! {
                () = &mut judged => {}
                Some(report) = self.reports.1.recv() => self.hear(report),
                Some(Ok((task, ()))) = self.listeners.join_next_with_id() => {
                    // It ended in a panic.
                    let host = self.asked.iter().find(|(_, asked)| asked.listener.id() == task);
                    if let Some(host) = host.map(|(host, _)| host.clone()) {
                        self.asked.remove(&host);
                        self.ask(host);
                    }
                }
            }
        }
    }

    fn hear(&mut self, Report { host, said }: Report) {
        let Some(asked) = self.asked.get_mut(&host) else { return };
        match said {
            Ok(view) => {
                asked.view = Some(view);
                if std::mem::take(&mut asked.is_missed) {
                    tracing::info!(node = %host, "a node of the cluster answers again");
                }
            }
            Err(why) => {
                asked.view = None;
                if !std::mem::replace(&mut asked.is_missed, true) {
                    let text = "a node of the cluster does not answer; it is asked again and again";
                    tracing::warn!(node = %host, why, "{text}");
                }
                let why = self.members.nobody(&why);
                self.endpoint.location.note_why(self.number, why);
            }
        }
        self.decide();
    }

    /// What the nodes say together may be another map.
    fn decide(&mut self) {
        let views = self.asked.values().filter_map(|asked| asked.view.as_deref());
        let picture = picture(views);
        if picture.nodes.is_empty() {
            return;
        }
        self.go_by(&picture);
        let hosts: HashSet<&Host> = picture.nodes.iter().map(|node| &node.host).collect();
        for host in picture.nodes.iter().map(|node| node.host.clone()) {
            self.ask(host);
        }
        let configured = &self.members.hosts;
        self.asked.retain(|host, asked| {
            let is_kept = hosts.contains(host) || configured.contains(host);
            if !is_kept {
                asked.listener.abort();
            }
            is_kept
        });
    }

    fn go_by(&self, picture: &Picture) {
        let cluster = &self.endpoint.cluster;
        let mut known = cluster.lock();
        let noted = cluster.history().note(picture);
        cluster.confirmed.store(noted, Ordering::Release);
        let next = self.map(picture, known.as_deref()).noted(noted);
        self.dismiss(known.as_deref(), &next);
        let home = next.nodes.get(next.home()).map(|home| home.host.clone());
        self.show(&next);
        cluster.replace(&mut known, Some(next));
        let map = known.clone();
        drop(known);
        if let Some(home) = home
            && self.endpoint.is_led_to(self.number, self.members.target(home.clone()))
        {
            let masters = map.map_or(0, |map| map.masters().len());
            tracing::info!(%home, masters, "the cluster answers; what has no key goes to this node");
        }
    }

    /// What an operator sees of each node.
    fn show(&self, map: &SlotMap) {
        let name = |node: &Node| self.members.target(node.host.clone()).name();
        self.endpoint.metrics.servers.keep(&map.nodes.iter().map(name).collect::<Vec<_>>());
        for (at, node) in map.nodes.iter().enumerate() {
            let answers = self.asked.get(&node.host).is_some_and(|asked| asked.view.is_some());
            let server = self.endpoint.metrics.servers.of(&name(node));
            server.up.set(i64::from(answers));
            server.slots.set(map.count(at) as i64);
        }
    }

    /// The map of this picture, whose nodes that were known before are the same.
    fn map(&self, picture: &Picture, before: Option<&SlotMap>) -> SlotMap {
        let known = |host: &Host| before.and_then(|before| before.nodes.iter().find(|node| node.host == *host));
        let place = |id: &str| picture.nodes.iter().position(|node| node.id == id);
        let node = |seen: &Seen| {
            // One that has come back is another one.
            let known = known(&seen.host).filter(|node| seen.has_failed || !node.endpoint.is_retired());
            let node = known.cloned().unwrap_or_else(|| self.members.node(self.endpoint, seen.host.clone()));
            Node { master: seen.master.as_deref().and_then(place), is_master: seen.is_master, ..node }
        };
        let nodes: Vec<Node> = picture.nodes.iter().map(node).collect();
        let owns = |at: &usize| picture.owners.contains(&Some(*at));
        let is_home = |at: &usize| owns(at) && !picture.nodes[*at].has_failed;
        let last = before.and_then(|before| before.nodes.get(before.home()));
        let stays = last.and_then(|last| nodes.iter().position(|node| node.host == last.host)).filter(is_home);
        let home = stays.or_else(|| (0..nodes.len()).find(is_home)).or_else(|| (0..nodes.len()).find(owns));
        let map = SlotMap::new(nodes, &picture.owners, home.unwrap_or(0));
        for (at, seen) in picture.nodes.iter().enumerate().filter(|(_, seen)| seen.has_failed) {
            if map.count(at) == 0 && !map.nodes[at].endpoint.is_retired() {
                tracing::warn!(node = %seen.host, "a node of the cluster has failed, and another one has its slots");
                map.nodes[at].endpoint.retire();
            }
        }
        map
    }

    /// Nodes that are not of the cluster any more take no commands; what is under way ends there.
    fn dismiss(&self, before: Option<&SlotMap>, next: &SlotMap) {
        let gone = before.iter().flat_map(|before| &before.nodes);
        for node in gone.filter(|node| next.node(&node.host).is_none()) {
            tracing::info!(node = %node.host, "a node is not of the cluster any more");
            node.endpoint.leave();
        }
    }

    /// `upstream.url` leads somewhere else: what is under way ends where it began.
    pub(super) fn end(self) {
        let cluster = &self.endpoint.cluster;
        let mut known = cluster.lock();
        let before = known.clone();
        cluster.replace(&mut known, None);
        drop(known);
        before.iter().flat_map(|before| &before.nodes).for_each(|node| node.endpoint.leave());
    }
}
