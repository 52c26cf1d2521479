//! What modes of mappings mean to single keys: which are held, compared, or asked for on both sides.

use super::Router;
use crate::command::{Request, Spec};
use crate::keys::MappingId;

/// Set in the sidecar's cursors: an upstream would need 2^52 keys to use it, and it is still exact as a floating-point
/// number.
pub const OWN_CURSOR: u64 = 1 << 52;

impl Router {
    /// True when one of the keys is of a mapping that is changing over to another mode.
    #[must_use]
    pub fn is_held(&self, request: &Request<'_>, spec: &Spec) -> bool {
        let mut is_held = false;
        request.each_key(spec, |at| {
            is_held |= self.keyspace.owner(request.arg(at)).is_some_and(|id| self.modes.is_held(id))
        });
        is_held
    }

    /// The mapping that this key of the upstream's is compared with.
    #[must_use]
    pub fn shadowed(&self, key: &[u8]) -> Option<MappingId> {
        self.keyspace.owner(key).filter(|mapping| self.modes.shadows(*mapping, key))
    }

    /// The mapping of a key that the upstream is asked for where the store has it not.
    #[must_use]
    pub fn falls_back(&self, key: &[u8]) -> Option<MappingId> {
        self.keyspace.owner(key).filter(|mapping| self.modes.falls_back(*mapping, key))
    }

    /// True when the upstream is asked for one of the keys, if the store has it not.
    #[must_use]
    pub fn falls_back_with(&self, request: &Request<'_>, spec: &Spec) -> bool {
        let mut falls_back = false;
        request.each_key(spec, |at| falls_back |= self.falls_back(request.arg(at)).is_some());
        falls_back
    }

    /// True when the upstream's keys of this name are not shown in a listing: the store's are.
    #[must_use]
    pub fn hides(&self, key: &[u8]) -> bool {
        self.owner(key).is_some_and(|mapping| !self.modes.falls_back(mapping, key))
    }
}

/// True for a SCAN with a cursor of the sidecar's, which means nothing to the upstream: keys were owned when it began.
pub(super) fn goes_on_here(request: &Request<'_>, spec: &Spec) -> bool {
    let cursor = std::str::from_utf8(request.arg(1)).ok().and_then(|text| text.parse::<u64>().ok());
    spec.name == "scan" && cursor.is_some_and(|cursor| cursor & OWN_CURSOR != 0)
}
