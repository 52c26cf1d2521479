//! The master that sentinels watch over: every sentinel that is known is asked, and heard, all the time, and where the
//! newest of what they say differs from what is in use, commands go to another master from that moment on.
//!
//! Invariants:
//! - what a sentinel says of an older configuration does not replace what is known of a newer one, unless most of them
//!   say it for long (`council.rs`);
//! - a sentinel that is silent changes nothing: the last master stays in use.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

mod answer;
mod council;
mod listener;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::Endpoint;
use super::asking::{in_time, open};
use super::target::{Host, Target};
use super::topology::{Sentinels, Topology};
use answer::{Answer, ask};
use council::Council;
use listener::{Listener, Report, Stage};

/// A failover takes about a second from where commands are held back for it to the new master.
const HELD_AT_MOST: Duration = Duration::from_secs(3);
/// Most sentinels that are listened to: a group has three to seven.
const MOST: usize = 32;
/// Reports that may wait; the listeners wait with more.
const REPORTS: usize = 64;

/// Follows the sentinels for ever, whenever `upstream.url` leads to some.
pub async fn follow(endpoint: &Arc<Endpoint>) {
    loop {
        let (topology, number) = endpoint.location.topology();
        let mut lookout = endpoint.location.lookout(0);
        if let Some(Topology::Sentinels(sentinels)) = topology.as_deref() {
            let mut watch = Watch::new(endpoint, sentinels, number);
            tokio::select! {
                () = watch.run() => {}
                () = lookout.replaced(number) => {}
            }
            watch.forget();
        } else {
            lookout.replaced(number).await;
        }
    }
}

/// The master, as the sentinels name it now, and what an operator should know of them.
///
/// # Errors
/// Why none of them names one.
pub(super) async fn find(sentinels: &Sentinels, timeout: Duration) -> Result<(Target, Vec<String>), String> {
    let (mut council, mut doubts) = (Council::default(), Vec::new());
    for host in &sentinels.hosts {
        let target = sentinels.sentinel(host.clone());
        let answer = in_time(timeout, async { ask(&mut open(&target, timeout).await?, &sentinels.service).await });
        match answer.await {
            Ok(Answer { view, .. }) => council.hear(host, Some(view)),
            Err(why) => doubts.push(format!("the sentinel {host} does not help: {why}")),
        }
    }
    match council.verdict(sentinels.hosts.len(), Instant::now()) {
        Some(master) => Ok((sentinels.master(master), doubts)),
        None => Err(doubts.join("; ")),
    }
}

/// The sentinels of one `upstream.url`.
struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    sentinels: &'a Sentinels,
    /// The topology's number.
    number: u64,
    council: Council,
    /// Those that are listened to, with their own ids once they have told them.
    known: HashMap<Host, Option<String>>,
    /// How many answer.
    answering: usize,
    listeners: JoinSet<()>,
    reports: (Sender<Report>, Receiver<Report>),
}

impl<'a> Watch<'a> {
    fn new(endpoint: &'a Arc<Endpoint>, sentinels: &'a Sentinels, number: u64) -> Self {
        let mut watch = Self {
            endpoint,
            sentinels,
            number,
            council: Council::default(),
            known: HashMap::new(),
            answering: 0,
            listeners: JoinSet::new(),
            reports: channel(REPORTS),
        };
        sentinels.hosts.iter().for_each(|host| watch.listen_to(host.clone(), None));
        watch
    }

    fn listen_to(&mut self, host: Host, id: Option<String>) {
        if self.known.len() >= MOST || self.known.contains_key(&host) {
            return;
        }
        self.known.insert(host.clone(), id);
        let listener = Listener {
            target: self.sentinels.sentinel(host.clone()),
            host,
            service: self.sentinels.service.clone(),
            endpoint: self.endpoint.clone(),
            reports: self.reports.0.clone(),
        };
        self.listeners.spawn(listener.run());
    }

    /// Never ends: a sender is kept.
    async fn run(&mut self) {
        self.tell_counts();
        while let Some(report) = self.reports.1.recv().await {
            match report {
                Report::Says(host, answer) => self.hear(host, answer),
                Report::IsSilent(host, why) => self.miss(&host, &why),
                Report::Failover(stage) => self.prepare(stage),
            }
            self.tell_counts();
        }
    }

    fn hear(&mut self, host: Host, answer: Answer) {
        for (other, id) in answer.others {
            // Under another name it may be one that is known.
            if !self.known.values().flatten().any(|known| *known == id) {
                self.listen_to(other, Some(id));
            }
        }
        self.council.hear(&host, Some(answer.view));
        self.known.insert(host, answer.id);
        self.decide();
    }

    fn miss(&mut self, host: &Host, why: &str) {
        self.council.hear(host, None);
        let why = format!("the sentinel {host} does not help: {why}");
        self.endpoint.location.note_why(self.number, self.sentinels.no_master(&why));
        if self.council.is_deserted() && self.answering > 0 {
            tracing::warn!(
                service = self.sentinels.service,
                %host,
                why,
                "no sentinel answers; the last master stays in use, and a failover is noticed when one answers again"
            );
        }
        self.decide();
    }

    /// Another master may be the right one now.
    fn decide(&mut self) {
        let Some(host) = self.council.verdict(self.known.len(), Instant::now()) else { return };
        let master = self.sentinels.master(host);
        let name = master.name();
        if self.endpoint.location.appoint(self.number, master) {
            self.endpoint.circuit.begin_again();
            self.endpoint.metrics.sentinels.masters.inc();
            tracing::info!(service = self.sentinels.service, master = name, "the sentinels name the master");
        }
    }

    /// A write that is answered by a master that is about to be deposed would be lost: commands wait for the new one.
    fn prepare(&self, stage: Stage) {
        match stage {
            Stage::Begins => {
                tracing::info!(
                    service = self.sentinels.service,
                    "a failover is under way: commands wait for the new master, for three seconds at most"
                );
                self.endpoint.location.hold(self.number, HELD_AT_MOST);
            }
            Stage::Fails => self.endpoint.location.release(),
        }
    }

    fn tell_counts(&mut self) {
        self.answering = self.council.answering();
        let metrics = &self.endpoint.metrics.sentinels;
        metrics.known.set(self.known.len() as i64);
        metrics.answering.set(self.answering as i64);
    }

    /// There are none any more.
    fn forget(&self) {
        let metrics = &self.endpoint.metrics.sentinels;
        metrics.known.set(0);
        metrics.answering.set(0);
    }
}
