//! Every client that is connected.

use serde::Serialize;

use super::subject::Subject;
use crate::clients::Peer;
use crate::telemetry::clock::Tick;

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct ConnectedFacts {
    pub id: u64,
    pub address: String,
    pub name: String,
    pub library: String,
    pub user: String,
    pub age_seconds: u64,
    pub idle_seconds: u64,
    pub flags: String,
    pub requests: u64,
    pub requests_of_minute: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub waiting_bytes: usize,
    pub stalled_ms: Option<u64>,
}

impl ConnectedFacts {
    fn of(peer: &Peer, now: Tick) -> Self {
        let [in_bytes, out_bytes, requests] = peer.traffic.totals();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, library, user) = peer.read(|state| (text(&state.name), text(&state.lib_name), state.user.clone()));
        Self {
            id: peer.id,
            address: peer.addresses.0.clone(),
            name,
            library,
            user,
            age_seconds: peer.age(now) / 1000,
            idle_seconds: peer.idle(now) / 1000,
            flags: peer.flags(),
            requests,
            requests_of_minute: peer.traffic.requests_of_minute(),
            in_bytes,
            out_bytes,
            waiting_bytes: peer.holding.owes_now(),
            stalled_ms: peer.stalled_since().map(|since| now.since(since)),
        }
    }
}

impl Subject {
    /// All of them, in the order in which they connected.
    #[must_use]
    pub fn connected(&self) -> Vec<ConnectedFacts> {
        let now = Tick::now();
        self.clients.matching(|_| true).iter().map(|peer| ConnectedFacts::of(peer, now)).collect()
    }
}
