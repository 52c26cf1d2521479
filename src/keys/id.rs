//! The number of a mapping.

/// The number of a mapping: its place in the list of mappings of one configuration, definitions first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(usize);

impl MappingId {
    /// The mapping at this place in the list.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place in the list.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}
