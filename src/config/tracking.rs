//! What is remembered for clients that keep owned keys themselves (CLIENT TRACKING).

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// `[tracking]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracking {
    /// Most owned keys of which it is remembered who has read them; past it clients are told to forget some.
    pub max_keys: usize,
    /// Most memory for that.
    pub max_bytes: ByteSize,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { max_keys: 4_000_000, max_bytes: ByteSize(256 << 20) }
    }
}
