//! `[audit]`: who wrote what, and who administered, as lines of a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the lines go, and what they say of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditConfig {
    /// The file; empty: there is none.
    pub file: PathBuf,
    /// How keys stand there.
    pub keys: AuditKeys,
    /// With it keys are hashed.
    pub secret: String,
}

/// How keys stand in the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKeys {
    /// As they are.
    #[default]
    Plain,
    /// As HMAC-SHA-256 with `secret`: whoever has that can find a key, and nobody else.
    Hashed,
}
