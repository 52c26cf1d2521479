//! Who owns a key, and what a route says about owned keys. It is decided once, and nobody asks again.

use super::Split;
use crate::command::Spec;
use crate::keys::MappingId;

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The upstream.
    Upstream,
    /// The definitions of this mapping.
    Definitions(MappingId),
    /// The cache, under this mapping.
    Cache(MappingId),
}

impl Holder {
    /// The mapping of an owned key.
    #[must_use]
    pub const fn mapping(self) -> Option<MappingId> {
        match self {
            Self::Upstream => None,
            Self::Definitions(mapping) | Self::Cache(mapping) => Some(mapping),
        }
    }
}

/// The one owned key of a request, and the command on it.
#[derive(Clone, Copy, Debug)]
pub struct OwnedKey {
    /// The mapping that owns it.
    pub mapping: MappingId,
    /// Its place among the arguments.
    pub at: usize,
    /// The command.
    pub spec: &'static Spec,
}

/// One key of a command that is split.
#[derive(Clone, Copy, Debug)]
pub struct SplitKey {
    /// Its place among the arguments.
    pub at: usize,
    /// Who holds it.
    pub holder: Holder,
}

/// The keys of a command that is split, in the order of the arguments.
#[derive(Clone, Debug)]
pub struct SplitKeys {
    /// What is asked of each key.
    pub split: Split,
    /// The keys.
    pub keys: Vec<SplitKey>,
    /// The command.
    pub spec: &'static Spec,
    /// So many of them, which the store has not, were removed at the upstream already.
    pub removed: i64,
}

impl SplitKeys {
    /// The same, of which so many were removed at the upstream already.
    #[must_use]
    pub fn removed_elsewhere(self, removed: i64) -> Self {
        Self { removed, ..self }
    }
}
