//! The way of a request from node to node of a cluster, over connections that are lent for it: a node that does not
//! have its slot says so instead of an answer, and has done nothing. What goes over lanes finds its way in
//! `pipeline/cluster/merged.rs`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::cluster::redirect::{PAUSE, Redirect};
use super::endpoint::cluster::{has_moved, known_node};
use super::pinned::Pinned;
use super::pipeline::account::Account;
use super::pipeline::batch::{Batch, To};
use super::{ConnectError, Group, Upstream};
use crate::errors::upstream::{LOST_WAITING, UNSETTLED};
use crate::resp::encode;

/// A request that goes on after so long has been waiting in between, and is not sent to and fro.
const REST: Duration = Duration::from_secs(1);

/// Where a node sends a request.
#[derive(Debug)]
pub struct Onward {
    redirect: Redirect,
    /// What its client is told if that leads nowhere.
    instead: String,
}

impl Onward {
    /// True where the map that is corrected does not lead there: the slot is on its way, or nobody's.
    #[must_use]
    pub const fn is_unsettled(&self) -> bool {
        !matches!(self.redirect, Redirect::Moved(..))
    }

    /// True where only this request goes there.
    #[must_use]
    pub const fn is_for_once(&self) -> bool {
        matches!(self.redirect, Redirect::Ask(..))
    }

    /// Whoever has the slot now may be asked again; if nobody can be, its client is told `instead`.
    #[must_use]
    pub fn again(instead: &str) -> Self {
        Self { redirect: Redirect::Down, instead: instead.to_owned() }
    }
}

/// How far a request has come.
#[derive(Debug, Default)]
pub struct Trail {
    /// What takes it, by the last map.
    to: To,
    /// Since when it is sent on, and when that was done last.
    since: Option<(Instant, Instant)>,
    /// How often nodes have said that another one owns the slot.
    moves: u32,
}

impl Trail {
    /// That of a request that this server takes.
    #[must_use]
    pub const fn of(to: To) -> Self {
        Self { to, since: None, moves: 0 }
    }

    /// Goes on, unless it has been sent to and fro for longer than `most`.
    fn goes_on(&mut self, most: Duration) -> bool {
        let now = Instant::now();
        let first = self.since.filter(|(_, last)| last.elapsed() < REST).map_or(now, |(first, _)| first);
        self.since = Some((first, now));
        first.elapsed() < most
    }
}

impl Upstream {
    /// Where the node at the other end of `pinned` sends the request to which it has given this reply, if it does.
    #[must_use]
    pub fn onward(&self, pinned: &Pinned, reply: &[u8]) -> Option<Onward> {
        if pinned.is_ended_by_move(reply) {
            return Some(Onward { redirect: Redirect::Primary, instead: LOST_WAITING.to_owned() });
        }
        if !self.is_cluster() {
            return None;
        }
        let redirect = Redirect::read(reply, &pinned.endpoint.host())?;
        let instead = String::from_utf8_lossy(reply).trim_start_matches('-').trim_end().to_owned();
        Some(Onward { redirect, instead })
    }

    /// Notes what a node has said, so that the next request finds its way.
    pub fn learn(&self, onward: &Onward) {
        match &onward.redirect {
            Redirect::Moved(slot, host) => drop(has_moved(&self.endpoint, *slot, host)),
            Redirect::Ask(_, host) => drop(known_node(&self.endpoint, host)),
            // The primary is asked in any case.
            Redirect::Primary => {}
            _ => self.endpoint.cluster.doubt(),
        }
    }

    /// True when what this server takes goes to the other end of `pinned`.
    #[must_use]
    pub fn leads_to(&self, pinned: &Pinned, to: To) -> bool {
        Arc::ptr_eq(&pinned.endpoint, &self.server(to))
    }

    /// A connection to where a request goes `onward`.
    ///
    /// # Errors
    /// What its client is told: that there is no connection, or that the request has been sent to and fro for too long.
    pub async fn follow(
        &self,
        trail: &mut Trail,
        onward: Onward,
        group: &Group,
        account: &Rc<Account>,
    ) -> Result<Pinned, String> {
        if !trail.goes_on(self.endpoint.settings.queue_timeout) {
            let is_by_node = onward.redirect.is_by_node(&self.endpoint, trail.to.slot());
            return Err(if is_by_node { UNSETTLED.to_owned() } else { onward.instead });
        }
        let text = |error: ConnectError| error.to_string();
        match &onward.redirect {
            Redirect::Primary => return self.pin_at(trail.to, group, account).await.map_err(text),
            Redirect::Moved(slot, host) => {
                trail.moves += 1;
                // Two nodes that name each other do not agree yet.
                let owner = if trail.moves > 1 { None } else { has_moved(&self.endpoint, *slot, host) };
                if let Some(owner) = owner {
                    match self.pool_of(owner).take(group, account).await {
                        Err(ConnectError::Retired) => {}
                        pinned => return pinned.map_err(text),
                    }
                }
            }
            Redirect::Ask(_, host) => {
                if let Some(importer) = known_node(&self.endpoint, host) {
                    match self.pool_of(importer).take(group, account).await {
                        Err(ConnectError::Retired) => {}
                        pinned => return pinned.inspect(Pinned::ask_for_slot).map_err(text),
                    }
                }
            }
            Redirect::TryAgain | Redirect::Down | Redirect::Demoted | Redirect::Unsent | Redirect::Retired => {}
        }
        self.pin_when_there(trail.to, group, account).await.map_err(text)
    }

    /// A connection to whoever takes this as soon as there is one, perhaps another one than now.
    async fn pin_when_there(&self, to: To, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        let begun = Instant::now();
        loop {
            self.endpoint.cluster.doubt();
            tokio::time::sleep(PAUSE).await;
            match self.pin_at(to, group, account).await {
                Err(ConnectError::Unreachable(..) | ConnectError::Retired)
                    if begun.elapsed() < self.endpoint.settings.queue_timeout => {}
                pinned => return pinned,
            }
        }
    }

    /// Has the nodes asked who owns what, and waits a moment for that.
    pub fn settled(&self) -> impl Future<Output = ()> + use<> {
        self.endpoint.cluster.doubt();
        tokio::time::sleep(PAUSE)
    }

    /// One slot of each master that has slots: together they lead to all of them.
    #[must_use]
    pub fn masters(&self) -> Vec<To> {
        let Some(map) = self.endpoint.cluster.map() else { return vec![To::Home] };
        map.first_slots().into_iter().flatten().map(To::Slot).collect()
    }
}

impl Pinned {
    /// The next request, or transaction, is for a slot that its node is about to have.
    pub fn ask_for_slot(&self) {
        let _unread = self.lane().submit(Batch::one(encode::request_of(&["ASKING"]), false));
    }

    /// The node of a cluster that it leads to.
    #[must_use]
    pub fn node(&self) -> Option<Arc<str>> {
        self.endpoint.node_name()
    }
}
