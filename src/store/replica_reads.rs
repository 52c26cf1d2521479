//! What an operator is told of loads from hot standbys. Knows no engine.

/// Of `store.read_url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReads {
    /// One of them answers.
    pub is_up: bool,
    /// Why the last load that was meant for one went to the primary, if it did.
    pub why_not: Option<String>,
    /// Keys that were loaded there.
    pub there: u64,
    /// Keys that the primary was asked for instead.
    pub elsewhere: u64,
}
