//! `[slowlog]`: what is slow enough to be remembered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is slow enough to be remembered, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slowlog {
    /// A command on a cached key that was answered so late; 0: none is.
    #[serde(with = "humantime_serde")]
    pub commands: Duration,
    /// A load or a write at the store that took so long; 0: none is.
    #[serde(with = "humantime_serde")]
    pub store: Duration,
    /// The last so many are remembered.
    pub entries: usize,
}

impl Default for Slowlog {
    fn default() -> Self {
        Self { commands: Duration::from_millis(100), store: Duration::from_millis(100), entries: 128 }
    }
}
