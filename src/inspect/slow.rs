//! What was slow lately.

use serde::Serialize;

use super::key_name;
use super::subject::Subject;
use super::times;
use super::top::Sight;
use crate::telemetry::slow::{SlowEntry, SlowKind};

/// One command, load or write.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct SlowFacts {
    pub id: u64,
    pub at: String,
    pub kind: &'static str,
    pub ms: f64,
    pub mapping: String,
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_encoded: Option<String>,
    pub cause: String,
    pub command: Option<String>,
    pub client: Option<u64>,
    pub address: Option<String>,
    pub name: Option<String>,
}

impl SlowFacts {
    fn of(entry: SlowEntry, sight: Sight) -> Self {
        let SlowEntry { id, at, slow } = entry;
        let (command, client) = slow.asked.as_ref().map(|asked| (asked.command.clone(), asked.client)).unzip();
        let (key, key_encoded) = (sight == Sight::Keys).then(|| key_name::told(&slow.key)).unzip();
        let (address, name) = slow.asked.map(|asked| (asked.address, asked.name)).unzip();
        Self {
            id,
            at: times::shown(at),
            kind: match slow.kind {
                SlowKind::Command => "command",
                SlowKind::Load => "load",
                SlowKind::Write => "write",
                SlowKind::Flush => "flush",
            },
            ms: slow.time.as_micros() as f64 / 1000.0,
            mapping: slow.mapping,
            key,
            key_encoded: key_encoded.flatten(),
            cause: slow.cause,
            command,
            client,
            address,
            name,
        }
    }
}

impl Subject {
    /// The last `most` that were slow, the newest first.
    #[must_use]
    pub fn slow(&self, most: usize, sight: Sight) -> Vec<SlowFacts> {
        self.metrics.cache.slow.last(most).into_iter().map(|entry| SlowFacts::of(entry, sight)).collect()
    }
}
