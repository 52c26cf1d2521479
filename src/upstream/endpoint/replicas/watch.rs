//! The watch over the servers of one `upstream.url`: what they say of replication decides where reads go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};

use super::history::History;
use super::listener::{Answer, Listener, Report};
use super::readers::{Candidate, Near, Reader, Readers, near};
use super::roles::{self, Heard};
use super::said::Said;
use super::shards::{Shard, shards, target};
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::{LastingPart, caught};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::target::Host;
use crate::upstream::endpoint::topology::{Hosts, Topology};

/// Reports that may wait; the listeners wait with more.
const REPORTS: usize = 64;
/// A server is asked so many times in `upstream.read_lag`, but not more seldom than this.
const TIMES: u32 = 4;
const AT_MOST: Duration = Duration::from_millis(500);

/// One server that is asked.
struct Asked {
    listener: AbortHandle,
    /// What it said last, or that it does not answer; none before its first word.
    heard: Option<Option<Said>>,
    /// While it is a master.
    history: History,
    /// How long it takes to answer, about.
    latency: Duration,
    zone: String,
    /// While it is a replica that answers.
    reader: Option<Arc<Reader>>,
    /// It has been logged that reads go there.
    is_used: bool,
    /// It has been logged that it does not answer.
    is_missed: bool,
}

pub(super) struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    topology: &'a Topology,
    /// The topology's number.
    number: u64,
    often: Duration,
    asked: BTreeMap<Host, Asked>,
    listeners: JoinSet<()>,
    reports: (Sender<Report>, Receiver<Report>),
}

impl<'a> Watch<'a> {
    pub(super) fn new(endpoint: &'a Arc<Endpoint>, topology: &'a Topology, number: u64) -> Self {
        let often = (endpoint.settings.read_lag / TIMES).min(AT_MOST);
        let (asked, listeners, reports) = (BTreeMap::new(), JoinSet::new(), channel(REPORTS));
        Self { endpoint, topology, number, often, asked, listeners, reports }
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        // What they say is put together more often than they are asked: a lease is short.
        let mut ticker = tokio::time::interval(self.often / TIMES);
        loop {
            tokio::select! {
                Some(report) = self.reports.1.recv() => self.hear(report),
                Some(Ok((task, ()))) = self.listeners.join_next_with_id() => {
                    // It ended in a panic, and is asked again at the next tick.
                    self.asked.retain(|_, asked| asked.listener.id() != task);
                }
                _ = ticker.tick() => self.look(),
            }
        }
    }

    fn shards(&self) -> Vec<Shard> {
        shards(self.endpoint, self.topology, self.number)
    }

    /// Asks who is to be asked, and nobody else.
    fn look(&mut self) {
        let mut hosts: BTreeSet<Host> = BTreeSet::new();
        if let Topology::Hosts(servers) = self.topology {
            hosts.extend(servers.hosts.iter().cloned());
        }
        for shard in self.shards() {
            hosts.extend(shard.replicas);
            hosts.insert(shard.primary);
        }
        self.asked.retain(|host, asked| {
            let is_kept = hosts.contains(host);
            if !is_kept {
                asked.listener.abort();
                asked.give_up();
            }
            is_kept
        });
        for host in hosts {
            if !self.asked.contains_key(&host) {
                let asked = self.ask(&host);
                self.asked.insert(host, asked);
            }
        }
        self.decide();
    }

    fn ask(&mut self, host: &Host) -> Asked {
        let listener = Listener {
            target: target(self.topology, host),
            host: host.clone(),
            often: self.often,
            timeout: self.endpoint.settings.connect_timeout,
            reports: self.reports.0.clone(),
        };
        let panics = self.endpoint.panics.clone();
        let listener = self.listeners.spawn(async move {
            caught(LastingPart::Replicas, &panics, listener.run()).await;
        });
        Asked {
            listener,
            heard: None,
            history: History::default(),
            latency: Duration::ZERO,
            zone: String::new(),
            reader: None,
            is_used: false,
            is_missed: false,
        }
    }

    fn hear(&mut self, Report { host, said }: Report) {
        let Some(asked) = self.asked.get_mut(&host) else { return };
        match said {
            Ok(answer) => {
                asked.hear(answer);
                if std::mem::take(&mut asked.is_missed) {
                    tracing::info!(server = %host, "a server of the upstream tells of its replication again");
                }
            }
            Err(why) => {
                asked.heard = Some(None);
                asked.give_up();
                if !std::mem::replace(&mut asked.is_missed, true) {
                    let text = "a server of the upstream does not tell of its replication; it is asked again and again";
                    tracing::warn!(server = %host, why, "{text}");
                }
                if let Topology::Hosts(servers) = self.topology {
                    self.endpoint.location.note_why(self.number, servers.no_primary(&format!("{host}: {why}")));
                }
            }
        }
        if let Topology::Hosts(servers) = self.topology {
            self.appoint(servers);
        }
    }

    /// What the servers say may change where reads go.
    fn decide(&mut self) {
        if !self.endpoint.replicas.are_read() {
            return;
        }
        let (now, is_of_cluster) = (Tick::now(), matches!(self.topology, Topology::Cluster(_)));
        let (mut readers, mut names) = (Readers::default(), Vec::new());
        for shard in self.shards() {
            self.read_from(&shard, is_of_cluster);
            readers.0.push((shard.endpoint.clone(), self.near(&shard, now)));
            self.show(&shard, now, &mut names);
        }
        self.endpoint.replicas.replace(readers);
        if !is_of_cluster {
            self.endpoint.metrics.servers.keep(&names);
        }
    }

    /// The server that says so is the primary.
    fn appoint(&self, servers: &Hosts) {
        let now = self.endpoint.location.target_in(self.number).and_then(|target| target.host());
        let heard: Heard = self.asked.iter().map(|(host, asked)| (host.clone(), asked.heard.clone())).collect();
        let Some(host) = roles::primary(&servers.hosts, &heard, now.as_ref()) else { return };
        if self.endpoint.is_led_to(self.number, servers.primary(host.clone())) {
            tracing::info!(primary = %host, "this server of upstream.url is the primary");
        }
    }

    /// Replicas that have what their primary had may be read for a while.
    fn read_from(&mut self, shard: &Shard, is_of_cluster: bool) {
        let Some(primary) = self.asked.get_mut(&shard.primary) else { return };
        primary.give_up();
        let history = std::mem::take(&mut primary.history);
        for host in &shard.replicas {
            let Some(asked) = self.asked.get_mut(host) else { continue };
            let Some(Some(said)) = &asked.heard else { continue };
            if said.is_master {
                asked.give_up();
            } else if let Some((covered, offset)) = history.covered(said) {
                let target = || target(self.topology, host);
                let reader =
                    asked.reader.get_or_insert_with(|| Arc::new(self.endpoint.reader(target(), is_of_cluster)));
                reader.is_fresh_until(covered.plus(millis(self.endpoint.settings.read_lag)), offset);
            } else if !said.is_linked {
                asked.reader.iter().for_each(|reader| reader.leave());
            }
        }
        if let Some(primary) = self.asked.get_mut(&shard.primary) {
            primary.history = history;
        }
    }

    /// Those that reads of this shard go to.
    fn near(&self, shard: &Shard, now: Tick) -> Near {
        let zone = &self.endpoint.settings.zone;
        let candidate = |host: &Host, is_primary: bool| {
            let asked = self.asked.get(host)?;
            let reader = asked.reader.clone().filter(|reader| !is_primary && reader.is_fresh(now));
            let is_in_zone = !zone.is_empty() && asked.zone == *zone;
            (is_primary || reader.is_some()).then_some(Candidate { reader, latency: asked.latency, is_in_zone })
        };
        let replicas = shard.replicas.iter().filter_map(|host| candidate(host, false));
        near(self.endpoint.settings.read_from, candidate(&shard.primary, true).into_iter().chain(replicas).collect())
    }

    /// What an operator sees of each server.
    fn show(&mut self, shard: &Shard, now: Tick, names: &mut Vec<String>) {
        let name = |host: &Host| target(self.topology, host).name();
        let servers = &self.endpoint.metrics.servers;
        names.push(name(&shard.primary));
        servers.of(&name(&shard.primary)).replica.set(0);
        for host in &shard.replicas {
            let behind = self.behind(&shard.primary, host);
            let Some(asked) = self.asked.get_mut(host) else { continue };
            let server = servers.of(&name(host));
            names.push(name(host));
            let is_used = asked.reader.as_ref().is_some_and(|reader| reader.is_fresh(now));
            if std::mem::replace(&mut asked.is_used, is_used) != is_used {
                match is_used {
                    true => tracing::info!(replica = %host, "reads may go to this replica"),
                    false => {
                        tracing::info!(replica = %host, behind, "this replica is not read: it is away, or too late")
                    }
                }
            }
            server.up.set(i64::from(matches!(asked.heard, Some(Some(_)))));
            server.replica.set(1);
            server.read.set(i64::from(is_used));
            server.lag.set(behind.unwrap_or_default() as i64);
        }
    }

    /// How many bytes a replica is behind its primary.
    fn behind(&self, primary: &Host, replica: &Host) -> Option<u64> {
        let said = self.asked.get(replica)?.heard.as_ref()?.as_ref()?;
        self.asked.get(primary)?.history.behind(said)
    }

    /// `upstream.url` leads somewhere else: what replicas were asked is asked there.
    pub(super) fn end(mut self) {
        self.endpoint.replicas.replace(Readers::default());
        self.asked.values_mut().for_each(Asked::give_up);
    }
}

impl Asked {
    fn hear(&mut self, answer: Answer) {
        self.history.note(answer.asked, &answer.said);
        self.latency = if self.latency.is_zero() { answer.took } else { (self.latency * 7 + answer.took) / 8 };
        (self.heard, self.zone) = (Some(Some(answer.said)), answer.zone);
    }

    /// It is read no more: what it was asked is asked of the primary.
    fn give_up(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.leave();
            reader.endpoint.retire();
        }
    }
}
