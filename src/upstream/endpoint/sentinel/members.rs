//! The sentinels that are listened to: those of `upstream.url`, and those that they tell of.
//!
//! Each has an id, which stays the same wherever it is: one that is known under two names counts once, and an address
//! that is another one's now is not taken for the one that was there.

use std::collections::{BTreeSet, HashMap};

use tokio::task::{AbortHandle, Id};

use crate::upstream::endpoint::target::Host;

/// Most that are listened to: a group has three to seven.
pub(super) const MOST: usize = 32;

/// One sentinel.
#[derive(Debug)]
pub(super) struct Member {
    /// Its own id, as it told or as others did.
    pub(super) id: Option<String>,
    /// `upstream.url` names it.
    pub(super) is_configured: bool,
    /// The others that it told of.
    pub(super) others: Vec<Host>,
    /// The master's replicas that it told of.
    pub(super) replicas: Vec<Host>,
    /// Its listener.
    pub(super) listener: AbortHandle,
}

/// All of them, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Members(pub(super) HashMap<Host, Member>);

impl Members {
    /// True if what answers at this address is another one than the others told of.
    pub(super) fn is_another(&self, host: &Host, id: Option<&str>) -> bool {
        let Some(member) = self.0.get(host).filter(|member| !member.is_configured) else { return false };
        id.is_some() && member.id.is_some() && member.id.as_deref() != id
    }

    /// Those that have the id of this one under another address.
    pub(super) fn twins(&self, host: &Host) -> Vec<Host> {
        let Some(id) = self.0.get(host).and_then(|member| member.id.as_ref()) else { return Vec::new() };
        let is_twin = |(other, member): &(&Host, &Member)| *other != host && member.id.as_ref() == Some(id);
        self.0.iter().filter(is_twin).map(|(other, _)| other.clone()).collect()
    }

    /// Where the one with this id is, as far as it is known.
    pub(super) fn place_of(&self, id: &str) -> Option<&Host> {
        self.0.iter().find(|(_, member)| member.id.as_deref() == Some(id)).map(|(host, _)| host)
    }

    /// Those that were learnt, are silent, and that nobody who answers tells of any more.
    pub(super) fn gone(&self, answers: impl Fn(&Host) -> bool) -> Vec<Host> {
        let is_told_of =
            |host: &Host| self.0.iter().any(|(teller, member)| answers(teller) && member.others.contains(host));
        let is_gone = |(host, member): &(&Host, &Member)| !member.is_configured && !answers(host) && !is_told_of(host);
        self.0.iter().filter(is_gone).map(|(host, _)| host.clone()).collect()
    }

    /// The master's replicas, as those tell that answer.
    pub(super) fn replicas(&self, answers: impl Fn(&Host) -> bool) -> Vec<Host> {
        let telling = self.0.iter().filter(|(host, _)| answers(host));
        let all: BTreeSet<&Host> = telling.flat_map(|(_, member)| &member.replicas).collect();
        all.into_iter().cloned().collect()
    }

    /// How many the group has, by those who know most of the others.
    pub(super) fn size(&self) -> usize {
        self.0.values().map(|member| member.others.len() + 1).max().unwrap_or(1)
    }

    /// The one that this task listens to.
    pub(super) fn heard_by(&self, task: Id) -> Option<&Host> {
        self.0.iter().find(|(_, member)| member.listener.id() == task).map(|(host, _)| host)
    }
}
