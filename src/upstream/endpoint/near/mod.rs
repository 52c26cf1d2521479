//! What the upstream tells the near cache (`[[near]]`): one connection to each server that may have its keys, on which
//! that tells every change of them (CLIENT TRACKING ... BCAST).
//!
//! Invariants:
//! - what is kept is vouched for up to the moment at which every server was last asked, of those that have answered
//!   since: an answer comes behind all that was told before it;
//! - a connection that is lost or silent, a server more or less, and a slot that has moved are gaps.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/client-side-caching/#broadcasting-mode>

mod listener;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::Endpoint;
use super::cluster::Node;
use crate::near::{Ground, Near};
use crate::telemetry::clock::Tick;
use crate::telemetry::{LastingPart, caught};
use listener::{Listener, Report, Said};

/// Reports that may wait; the listeners wait with more.
const REPORTS: usize = 64;
/// How often memory is tidied, and looked whether the servers are the same.
const OFTEN: Duration = Duration::from_millis(250);

impl Endpoint {
    /// What it is now.
    pub(in crate::upstream) fn ground(&self) -> Ground {
        let (edition, moves) = (self.cluster.edition(), self.cluster.moves());
        Ground { edition, moves, location: self.location.numbered().1 }
    }
}

/// Follows the changes of what is kept, whatever that is after a reload.
#[derive(Debug)]
pub struct NearTask {
    endpoint: Arc<Endpoint>,
    kept: watch::Receiver<Option<Arc<Near>>>,
}

impl NearTask {
    /// It follows nothing yet.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>, kept: watch::Receiver<Option<Arc<Near>>>) -> Self {
        Self { endpoint, kept }
    }

    /// Runs for ever. Begun again after a panic, nothing that was kept holds.
    pub async fn run(&mut self) {
        let Self { endpoint, kept } = self;
        loop {
            let near = kept.borrow_and_update().clone();
            let follow = async {
                match &near {
                    Some(near) => Watch::new(endpoint, near).run().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = follow => {}
                changed = kept.changed() => if changed.is_err() {
                    // The sidecar stops.
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// One server that is listened to.
struct Heard {
    endpoint: Arc<Endpoint>,
    listener: AbortHandle,
    /// When it was asked what it has answered last; none while it does not tell what changes.
    told: Option<Tick>,
    /// Why it does not, as it was logged last.
    missed: Option<String>,
}

struct Watch<'a> {
    endpoint: &'a Arc<Endpoint>,
    near: &'a Arc<Near>,
    ground: Ground,
    /// By the numbers of their listeners.
    heard: HashMap<u64, Heard>,
    listeners: JoinSet<u64>,
    /// The number of the last one.
    last: u64,
    reports: (Sender<Report>, Receiver<Report>),
}

impl<'a> Watch<'a> {
    fn new(endpoint: &'a Arc<Endpoint>, near: &'a Arc<Near>) -> Self {
        near.gap();
        let (heard, listeners, reports) = (HashMap::new(), JoinSet::new(), channel(REPORTS));
        Self { endpoint, near, ground: endpoint.ground(), heard, listeners, last: 0, reports }
    }

    /// Runs for ever.
    async fn run(&mut self) {
        let (mut ticker, mut turn) = (tokio::time::interval(OFTEN), 0);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let changed = self.endpoint.cluster.changed();
            self.look();
            tokio::select! {
                Some(report) = self.reports.1.recv() => self.hear(report),
                Some(Ok(number)) = self.listeners.join_next() => {
                    self.hear(Report::lost(number, "a bug, which is in the log"));
                }
                () = changed => {}
                _ = ticker.tick() => {
                    turn += 1;
                    self.near.tidy(turn);
                }
            }
            self.vouch();
        }
    }

    /// The servers that may have the keys: of a cluster every master, because a slot on its way to one that owns
    /// nothing yet is read there already.
    fn servers(&self) -> Vec<Arc<Endpoint>> {
        if !self.endpoint.cluster.is_there() {
            return vec![self.endpoint.clone()];
        }
        let Some(map) = self.endpoint.cluster.map() else { return Vec::new() };
        let owners = map.masters();
        let has_keys =
            |(at, node): &(usize, &Node)| owners.contains(at) || node.is_master && !node.endpoint.is_retired();
        map.nodes.iter().enumerate().filter(has_keys).map(|(_, node)| node.endpoint.clone()).collect()
    }

    /// Listens to those, and to nobody else.
    fn look(&mut self) {
        let ground = self.endpoint.ground();
        let servers = self.servers();
        let (before, near) = (self.heard.len(), self.near);
        self.heard.retain(|_, heard| {
            let is_kept = !heard.listener.is_finished() && servers.iter().any(|one| Arc::ptr_eq(one, &heard.endpoint));
            if !is_kept {
                heard.listener.abort();
            }
            is_kept
        });
        let mut is_gap = self.heard.len() != before;
        for server in servers {
            if !self.heard.values().any(|heard| Arc::ptr_eq(&heard.endpoint, &server)) {
                self.listen(server);
                is_gap = true;
            }
        }
        is_gap |= (ground.moves, ground.location) != (self.ground.moves, self.ground.location);
        self.ground = ground;
        if is_gap {
            near.gap();
        }
    }

    fn listen(&mut self, endpoint: Arc<Endpoint>) {
        self.last += 1;
        let (number, panics) = (self.last, self.endpoint.panics.clone());
        let (near, reports) = (self.near.clone(), self.reports.0.clone());
        let listener = Listener { number, endpoint: endpoint.clone(), near, reports };
        let listener = self.listeners.spawn(async move {
            caught(LastingPart::Near, &panics, listener.run()).await;
            number
        });
        self.heard.insert(number, Heard { endpoint, listener, told: None, missed: None });
    }

    fn hear(&mut self, Report { number, said }: Report) {
        let Some(heard) = self.heard.get_mut(&number) else { return };
        match said {
            Said::All(asked) => {
                heard.told = Some(asked);
                if heard.missed.take().is_some() {
                    tracing::info!(server = heard.endpoint.shown(), "the upstream tells what changes again");
                }
            }
            Said::Lost(why) => {
                heard.told = None;
                self.near.gap();
                if heard.missed.as_ref() != Some(&why) {
                    tracing::warn!(
                        server = heard.endpoint.shown(),
                        why,
                        "the upstream does not tell what changes (CLIENT TRACKING): keys of [[near]] are read there \
                         until it does"
                    );
                    heard.missed = Some(why);
                }
            }
        }
    }

    /// What is kept holds up to the moment for which all of them answer.
    fn vouch(&self) {
        let told: Option<Vec<Tick>> = self.heard.values().map(|heard| heard.told).collect();
        if let Some(told) = told.and_then(|told| told.into_iter().min()) {
            self.near.vouch(told, self.ground);
        }
    }
}
