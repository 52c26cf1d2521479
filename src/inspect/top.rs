//! What was asked for most in the last minute, and by whom.

use std::cmp::Reverse;

use serde::Serialize;

use super::key_name;
use super::subject::Subject;
use crate::clients::Peer;
use crate::telemetry::TopKind;

/// By what they are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub enum Top {
    Keys(TopKind),
    Clients,
}

/// Who may see keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Who has shown that it may.
    Keys,
    /// Everybody else: of keys only their mapping.
    Mappings,
}

/// So many are told.
const MOST: usize = 20;

/// One of the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub enum TopFacts {
    Key {
        key: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_encoded: Option<String>,
        mapping: Option<String>,
        count: u64,
    },
    Client {
        id: u64,
        address: String,
        name: String,
        library: String,
        requests: u64,
    },
}

impl Top {
    /// By its name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let known = [
            ("reads", Self::Keys(TopKind::Reads)),
            ("misses", Self::Keys(TopKind::Misses)),
            ("invalidations", Self::Keys(TopKind::Invalidations)),
            ("bytes", Self::Keys(TopKind::Bytes)),
            ("clients", Self::Clients),
        ];
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, top)| top)
    }
}

impl TopFacts {
    fn of(peer: &Peer) -> Self {
        let [name, library] =
            peer.read(|state| [&state.name, &state.lib_name].map(|text| String::from_utf8_lossy(text).into_owned()));
        let (address, requests) = (peer.addresses.0.clone(), peer.traffic.requests_of_minute());
        Self::Client { id: peer.id, address, name, library, requests }
    }
}

impl Subject {
    /// The first twenty of the last minute.
    #[must_use]
    pub fn top(&self, top: Top, sight: Sight) -> Vec<TopFacts> {
        match top {
            Top::Keys(kind) => self.top_keys(kind, sight),
            Top::Clients => {
                let mut peers = self.clients.matching(|_| true);
                peers.sort_by_cached_key(|peer| Reverse(peer.traffic.requests_of_minute()));
                peers.iter().take(MOST).map(|peer| TopFacts::of(peer)).collect()
            }
        }
    }

    fn top_keys(&self, kind: TopKind, sight: Sight) -> Vec<TopFacts> {
        let facts = |(key, count): (bytes::Bytes, u64)| {
            let mapping = self.mappings.keyspace.owner(&key);
            let (text, key_encoded) = (sight == Sight::Keys).then(|| key_name::told(&key)).unzip();
            TopFacts::Key {
                key: text,
                key_encoded: key_encoded.flatten(),
                mapping: mapping.map(|id| self.mappings.list[id.index()].pattern.text().to_owned()),
                count,
            }
        };
        self.metrics.cache.top.top(kind, MOST).into_iter().map(facts).collect()
    }
}
