//! The watch over the cluster of one `upstream.url`: what its nodes say becomes the map that requests go by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};

use super::chosen;
use super::history::Note;
use super::judge::judge;
use super::kin::View;
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
    /// It is of another cluster, or of none.
    is_stranger: bool,
    /// That has been logged.
    is_told: bool,
}

impl Asked {
    fn by(listener: AbortHandle) -> Self {
        Self { listener, view: None, is_missed: false, is_stranger: false, is_told: false }
    }

    /// It has said something, or does not answer.
    const fn is_heard(&self) -> bool {
        self.view.is_some() || self.is_missed
    }
}

pub(super) struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    members: &'a Members,
    /// The topology's number.
    number: u64,
    asked: BTreeMap<Host, Asked>,
    /// One of them has said something else than before since the last map was made.
    is_news: bool,
    /// The last map that was made.
    made: Option<Arc<SlotMap>>,
    listeners: JoinSet<()>,
    reports: (Sender<Report>, Receiver<Report>),
}

impl<'a> Watch<'a> {
    pub(super) fn new(endpoint: &'a Arc<Endpoint>, members: &'a Members, number: u64) -> Self {
        let (asked, listeners, reports) = (BTreeMap::new(), JoinSet::new(), channel(REPORTS));
        let mut watch = Self { endpoint, members, number, asked, is_news: false, made: None, listeners, reports };
        for host in &members.hosts {
            watch.ask(host.clone());
            watch.show_answers(host, false);
        }
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
        self.asked.insert(host, Asked::by(listener));
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        let mut judged = pin!(judge(self.endpoint));
        loop {
            tokio::select! {
                () = &mut judged => {}
                Some(report) = self.reports.1.recv() => {
                    self.hear(report);
                    while let Ok(report) = self.reports.1.try_recv() {
                        self.hear(report);
                    }
                    self.decide();
                }
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
        self.show_answers(&host, said.is_ok());
        let Some(asked) = self.asked.get_mut(&host) else { return };
        match said {
            Ok(view) => {
                // One that has just been introduced to the others does not know them at once.
                if asked.is_stranger && !std::mem::replace(&mut asked.is_told, true) {
                    let text = "a node belongs to another cluster than the others, or to none any more; it is left \
                                out, and nothing is sent to it";
                    tracing::warn!(node = %host, "{text}");
                }
                self.is_news |= asked.view.as_ref() != Some(&view);
                asked.view = Some(view);
                if std::mem::take(&mut asked.is_missed) {
                    tracing::info!(node = %host, "a node of the cluster answers again");
                }
            }
            Err(why) => {
                self.is_news |= asked.view.take().is_some() || !asked.is_missed;
                if !std::mem::replace(&mut asked.is_missed, true) {
                    let text = "a node of the cluster does not answer; it is asked again and again";
                    tracing::warn!(node = %host, why, "{text}");
                }
                let why = self.members.nobody(&why);
                self.endpoint.location.note_why(self.number, why);
            }
        }
    }

    /// What the nodes say together may be another map. As long as they say what they said, and no redirection has
    /// changed it, it is the last one.
    fn decide(&mut self) {
        let known = self.endpoint.cluster.map();
        let is_last = self.made.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr);
        if is_last && !std::mem::take(&mut self.is_news) {
            return;
        }
        let Some((picture, named)) = self.look() else { return };
        if picture.nodes.is_empty() {
            return;
        }
        self.go_by(&picture);
        for host in picture.nodes.iter().map(|node| node.host.clone()) {
            self.ask(host);
        }
        let configured = &self.members.hosts;
        self.asked.retain(|host, asked| {
            let is_kept = named.contains(host) || configured.contains(host);
            if !is_kept {
                asked.listener.abort();
            }
            is_kept
        });
    }

    /// What the nodes say together, and all hosts that they name; nothing while it is not clear which cluster it is.
    fn look(&mut self) -> Option<(Picture, HashSet<Host>)> {
        let heard = |host: &Host| self.asked.get(host).is_some_and(Asked::is_heard);
        let are_heard = self.members.hosts.iter().all(heard);
        let view = |(host, asked): (&'_ Host, &'_ Asked)| Some((host.clone(), asked.view.clone()?));
        let told: Vec<(Host, Vec<Seen>)> = self.asked.iter().filter_map(view).collect();
        let views: Vec<View<'_>> = told.iter().map(|(host, nodes)| View { host, nodes }).collect();
        let chosen = chosen(&self.endpoint.cluster.history(), &views, &self.members.hosts, are_heard);
        for (at, view) in views.iter().enumerate() {
            let counts = chosen.as_ref().is_some_and(|chosen| chosen.counts[at]);
            if let Some(asked) = self.asked.get_mut(view.host) {
                asked.is_stranger = !counts && (chosen.is_some() || self.made.is_some());
                asked.is_told &= asked.is_stranger;
            }
        }
        let chosen = chosen?;
        if chosen.is_another {
            let text = "another cluster has taken the place of the one that was known: most hosts of upstream.url are \
                        its nodes";
            tracing::info!("{text}");
        }
        let named = chosen.named(&views).cloned().collect();
        Some((picture(chosen.seen(&views)), named))
    }

    fn go_by(&mut self, picture: &Picture) {
        let cluster = &self.endpoint.cluster;
        let note = cluster.history().note(picture);
        // Requests are not kept waiting for it: a redirection may change the last map meanwhile.
        let map = loop {
            let last = cluster.map();
            let next = self.map(picture, &note, last.as_deref());
            if let Some(map) = cluster.replace_last(last.as_ref(), next) {
                self.dismiss(last.as_deref(), &map);
                break map;
            }
        };
        self.retire(picture, &map);
        self.show(picture, &map);
        self.lead_home(&map);
        self.made = Some(map);
    }

    /// What belongs to no slot goes to the home of this map.
    fn lead_home(&self, map: &SlotMap) {
        let Some(home) = map.nodes.get(map.home()).map(|home| home.host.clone()) else { return };
        if !self.endpoint.is_led_to(self.number, self.members.target(home.clone())) {
            return;
        }
        if self.made.is_some() {
            tracing::info!(%home, "what has no key goes to another node of the cluster now");
        } else {
            let masters = map.masters().len();
            tracing::info!(%home, masters, "the cluster answers; what has no key goes to this node");
        }
    }

    /// Whether the node there answers. One that is not of the cluster is not shown.
    fn show_answers(&self, host: &Host, answers: bool) {
        let at = match &self.made {
            Some(map) => map.node(host).map(|at| &map.nodes[at].host),
            None => Some(host),
        };
        if let Some(host) = at {
            let name = self.members.target(host.clone()).name();
            self.endpoint.metrics.servers.of(&name).up.set(i64::from(answers));
        }
    }

    /// What an operator sees of each node.
    fn show(&self, picture: &Picture, map: &SlotMap) {
        let (servers, name) =
            (&self.endpoint.metrics.servers, |node: &Node| self.members.target(node.host.clone()).name());
        servers.keep(&map.nodes.iter().map(name).collect::<Vec<_>>());
        self.show_unowned(map.unowned());
        for ((node, seen), slots) in map.nodes.iter().zip(&picture.nodes).zip(map.counts()) {
            let answers = self.asked.get(&seen.host).is_some_and(|asked| asked.view.is_some());
            let server = servers.of(&name(node));
            server.up.set(i64::from(answers));
            server.slots.set(slots as i64);
        }
    }

    /// How many slots have no owner, which is logged when it is news.
    fn show_unowned(&self, slots: usize) {
        let shown = &self.endpoint.metrics.servers.unowned;
        match (shown.set(slots as i64), slots) {
            (0, 0) => {}
            (_, 0) => tracing::info!("every slot of the cluster has an owner again"),
            (0, _) => {
                let text = "slots of the cluster have no owner: commands for their keys are answered with CLUSTERDOWN; \
                            `redis-cli --cluster fix` gives them one";
                tracing::warn!(slots, "{text}");
            }
            _ => {}
        }
    }

    /// The map of this picture, whose nodes that were known before are the same.
    fn map(&self, picture: &Picture, note: &Note, before: Option<&SlotMap>) -> SlotMap {
        let before_at: HashMap<&Host, &Node> =
            before.iter().flat_map(|before| &before.nodes).map(|node| (&node.host, node)).collect();
        // One that only a redirection has named may go by its other name.
        let known = |seen: &Seen| {
            let other = seen.alias.as_ref().filter(|_| !self.members.access.is_by_name());
            before_at.get(&seen.host).or_else(|| before_at.get(other?)).copied()
        };
        let places: HashMap<&str, usize> =
            picture.nodes.iter().enumerate().map(|(at, node)| (node.id.as_str(), at)).collect();
        let node = |(seen, number): (&Seen, &u32)| {
            // One that has come back is another one.
            let known = known(seen).filter(|node| seen.has_failed || !node.endpoint.is_retired());
            let node = known.cloned().unwrap_or_else(|| self.members.node(self.endpoint, seen.host.clone(), *number));
            let alias = if node.host == seen.host { seen.alias.clone() } else { Some(seen.host.clone()) };
            let master = seen.master.as_deref().and_then(|id| places.get(id).copied());
            Node { number: *number, alias, master, is_master: seen.is_master, ..node }
        };
        let nodes: Vec<Node> = picture.nodes.iter().zip(&note.nodes).map(node).collect();
        let mut owns = vec![false; nodes.len()];
        picture.owners.iter().flatten().for_each(|at| owns[*at] = true);
        let is_home = |at: &usize| owns[*at] && !picture.nodes[*at].has_failed;
        let last = before.and_then(|before| before.nodes.get(before.home()));
        let stays = last.and_then(|last| nodes.iter().position(|node| node.host == last.host)).filter(is_home);
        let home = stays.or_else(|| (0..nodes.len()).find(is_home)).or_else(|| owns.iter().position(|owns| *owns));
        SlotMap::new(nodes, &picture.owners, home.unwrap_or(0)).noted(note.number)
    }

    /// Nodes that have failed, and that others have taken the place of, take no commands, and what is under way there
    /// ends at once.
    fn retire(&self, picture: &Picture, map: &SlotMap) {
        for ((node, seen), slots) in map.nodes.iter().zip(&picture.nodes).zip(map.counts()) {
            if seen.has_failed && slots == 0 && !node.endpoint.is_retired() {
                tracing::warn!(node = %seen.host, "a node of the cluster has failed, and another one has its slots");
                node.endpoint.retire();
            }
        }
    }

    /// Nodes that are not of the cluster any more take no commands; what is under way ends there.
    fn dismiss(&self, before: Option<&SlotMap>, next: &SlotMap) {
        let hosts: HashSet<&Host> = next.nodes.iter().map(|node| &node.host).collect();
        let gone = before.iter().flat_map(|before| &before.nodes);
        for node in gone.filter(|node| !hosts.contains(&node.host)) {
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
        self.endpoint.metrics.servers.unowned.set(0);
        before.iter().flat_map(|before| &before.nodes).for_each(|node| node.endpoint.leave());
    }
}
