//! The clients of the process in numbers, for INFO.

use std::collections::HashMap;

use bytes::Bytes;

use super::{LONGEST_NAME, Peer, Registry, State};
use crate::telemetry::{locked, shown};

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All but replicas.
    pub connected: usize,
    /// With `CLIENT TRACKING ON`.
    pub tracking: usize,
    /// With a subscription.
    pub subscribing: usize,
    /// With watched keys.
    pub watching: usize,
    /// The largest buffer for requests, and the most that waits for one client, in bytes.
    pub most_input: usize,
    /// See above.
    pub most_output: usize,
}

impl Census {
    fn add(&mut self, peer: &Peer, state: &State) {
        let held = peer.traffic.held();
        self.connected += usize::from(!state.replica);
        self.tracking += usize::from(state.tracking);
        self.subscribing += usize::from(state.subscribes());
        self.watching += usize::from(state.watching > 0);
        self.most_input = self.most_input.max(held.query + held.query_free);
        self.most_output = self.most_output.max(peer.holding.owes_now());
    }
}

impl Registry {
    /// How many have each name (CLIENT SETNAME).
    #[must_use]
    pub fn names(&self) -> Vec<(String, u64)> {
        let mut names = HashMap::<Bytes, u64>::new();
        for peer in locked(&self.peers).values().filter(|peer| !peer.is_killed()) {
            *names.entry(peer.read(|state| state.name.clone())).or_default() += 1;
        }
        names.into_iter().map(|(name, clients)| (shown(&name, LONGEST_NAME), clients)).collect()
    }

    /// Counts them.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for peer in locked(&self.peers).values().filter(|peer| !peer.is_killed()) {
            peer.read(|state| census.add(peer, state));
        }
        census
    }
}
