//! The number of a mapping.

/// The number of a mapping: its place in the list of mappings of one configuration, definitions first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(usize);

impl MappingId {
    /// The mapping at this place in the list.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The one behind it in the list.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its place in the list.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}
