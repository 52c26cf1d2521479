//! The labels that several metrics have.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// How a command, a load, a write or a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Ok => "ok",
            Self::Hit => "hit",
            Self::Absent => "absent",
            Self::Miss => "miss",
            Self::Error => "error",
        })
    }
}

/// Labels of counters by outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// How it ended.
    pub outcome: Outcome,
}

impl OutcomeLabel {
    /// Of what succeeds or fails.
    pub(super) const ENDS: [Self; 2] = [Self { outcome: Outcome::Ok }, Self { outcome: Outcome::Error }];
}

/// Labels of counters by reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// One word of those that docs/OPERATIONS.md lists.
    pub reason: &'static str,
}

impl ReasonLabel {
    /// The labels of these reasons.
    pub(super) fn all<const N: usize>(reasons: [&'static str; N]) -> [Self; N] {
        reasons.map(|reason| Self { reason })
    }
}

/// Labels of counters by mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MappingLabel {
    /// The key pattern.
    pub mapping: String,
}
