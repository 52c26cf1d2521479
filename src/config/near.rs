//! `[[near]]`: pass-through keys whose replies are kept in memory while the upstream tells what changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearConfig {
    /// Where the block stands, for faults.
    #[serde(skip)]
    pub path: String,
    /// A glob of the keys; a literal text stands before its first wildcard.
    #[serde(default)]
    pub keys: String,
    /// How long a reply is kept, at most.
    #[serde(with = "humantime_serde", default = "ttl")]
    pub ttl: Duration,
    /// Most memory for replies.
    #[serde(default = "max_bytes")]
    pub max_bytes: ByteSize,
}

const fn ttl() -> Duration {
    Duration::from_secs(60)
}

const fn max_bytes() -> ByteSize {
    ByteSize(64 << 20)
}

impl Default for NearConfig {
    fn default() -> Self {
        Self { path: String::new(), keys: String::new(), ttl: ttl(), max_bytes: max_bytes() }
    }
}
