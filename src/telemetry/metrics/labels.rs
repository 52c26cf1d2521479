//! The labels that several metrics have.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// How a command, a load, a write or a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the names are the labels")]
pub enum Outcome {
    Ok,
    Hit,
    Absent,
    Miss,
    Error,
}

impl Outcome {
    /// `Ok` or `Error`.
    pub const fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Ok } else { Self::Error }
    }
}

/// Labels of counters by outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// How it ended.
    pub outcome: Outcome,
}

/// Labels of counters by reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// One word of those that docs/OPERATIONS.md lists.
    pub reason: &'static str,
}

/// Labels of counters by mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MappingLabel {
    /// The key pattern.
    pub mapping: String,
}
