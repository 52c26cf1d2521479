//! The lanes of one worker thread, by group, and which of them a client uses: the one it begins with, unless the front
//! request there has taken longer than `upstream.lane_patience`. Then those who have nothing under way use another.
//!
//! Invariants:
//! - a client changes its lane only when everything before has been answered, so nothing overtakes what it sent (hazard
//!   15);
//! - nobody is sent to a lane that is not connected: where an upstream is slow altogether, all wait where they are;
//! - a lane without clients is closed after `upstream.pinned_idle_time`; of a client's own login, with its last client.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Account;
use super::server_lane::ServerLane;
use crate::telemetry::{LastingPart, caught};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::connect_quietly;
use crate::upstream::endpoint::group::{Group, Login};

/// A group has at most so many times `upstream.lanes`.
const MOST: usize = 4;
/// With so many groups, the lanes of one that has no clients are closed for those of a new one.
const MOST_GROUPS: usize = 32;

#[derive(Debug)]
struct Shared {
    /// Those that clients begin with, and behind them those that were opened because none of them moved on.
    lanes: Vec<ServerLane>,
    /// When a client last had one.
    used: Instant,
    /// Another one is being opened.
    is_opening: bool,
}

#[derive(Debug)]
pub(crate) struct Lanes {
    pub(super) endpoint: Arc<Endpoint>,
    groups: Rc<RefCell<HashMap<Group, Shared>>>,
}

impl Lanes {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, groups: Rc::default() }
    }

    /// The lane of a client that has nothing under way.
    pub(crate) fn lane(&self, group: &Group, client: u64, account: &Rc<Account>) -> ServerLane {
        let mut groups = self.groups.borrow_mut();
        let begun = self.endpoint.settings.lanes;
        if groups.len() >= MOST_GROUPS && !groups.contains_key(group) {
            close_free(&mut groups);
        }
        let shared = groups.entry(group.clone()).or_insert_with(|| {
            let start = |_| ServerLane::start(self.endpoint.clone(), group.clone(), None);
            Shared { lanes: (0..begun).map(start).collect(), used: Instant::now(), is_opening: false }
        });
        let its_own = &shared.lanes[client as usize % begun];
        if !its_own.is_stuck() {
            return its_own.of_another_client(account);
        }
        let others = shared.lanes.iter().filter(|lane| lane.moves_on());
        match others.min_by_key(|lane| lane.users()) {
            Some(other) => ServerLane { is_other: true, ..other.of_another_client(account) },
            None => {
                let lane = its_own.of_another_client(account);
                if shared.lanes.len() < begun * MOST && !std::mem::replace(&mut shared.is_opening, true) {
                    self.open_another(group.clone());
                }
                lane
            }
        }
    }

    /// One that is there when it is connected.
    fn open_another(&self, group: Group) {
        let (endpoint, groups) = (self.endpoint.clone(), Rc::downgrade(&self.groups));
        tokio::task::spawn_local(async move {
            let (panics, connecting) = (endpoint.panics.clone(), connect_quietly(&endpoint, &group));
            let connected = caught(LastingPart::UpstreamConnections, &panics, connecting).await.flatten();
            let Some(groups) = groups.upgrade() else { return };
            if let Some(shared) = groups.borrow_mut().get_mut(&group) {
                shared.is_opening = false;
                if let Some(connected) = connected {
                    tracing::debug!(db = group.db, "no lane moves on: another one is opened");
                    shared.lanes.push(ServerLane::start(endpoint, group.clone(), Some(connected)));
                }
            }
        });
    }

    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.borrow().is_empty()
    }

    /// Closes what nobody has used for `idle_time`.
    pub(crate) fn tend(&self, idle_time: Duration) {
        self.groups.borrow_mut().retain(|group, shared| {
            // Those in use and those that clients begin with stay in their places.
            let begun = self.endpoint.settings.lanes;
            if shared.lanes.iter().any(|lane| !is_free(lane)) {
                shared.used = Instant::now();
            }
            let mut at = 0;
            shared.lanes.retain(|lane| {
                at += 1;
                at <= begun || !is_free(lane)
            });
            let is_anybodys = !matches!(group.login, Login::Client(_));
            let is_kept = is_anybodys && shared.used.elapsed() < idle_time;
            is_kept || shared.lanes.iter().any(|lane| !is_free(lane))
        });
    }
}

fn is_free(lane: &ServerLane) -> bool {
    lane.users() == 0 && lane.is_idle()
}

/// Closes the lanes of the group without clients that had some longest ago.
fn close_free(groups: &mut HashMap<Group, Shared>) {
    let free = groups.iter().filter(|(_, shared)| shared.lanes.iter().all(is_free));
    if let Some(group) = free.min_by_key(|(_, shared)| shared.used).map(|(group, _)| group.clone()) {
        groups.remove(&group);
    }
}
