//! Which keys are owned: patterns with holes, and Redis's glob matching.
//! Pure; knows neither commands nor what lies behind a mapping.

mod glob;
mod pattern;

pub use glob::{glob_covers, glob_match};
pub use pattern::{HoleKind, Pattern, PatternError};

/// The patterns of all mappings, in the order of the config: the first that matches wins.
#[derive(Clone, Debug, Default)]
pub struct Keyspace {
    patterns: Vec<Pattern>,
}

impl Keyspace {
    /// A keyspace of these patterns; a mapping's id is its place in the list.
    #[must_use]
    pub const fn new(patterns: Vec<Pattern>) -> Self {
        Self { patterns }
    }

    /// The mapping that owns `key`; `None` for a pass-through key.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        self.patterns.iter().position(|pattern| pattern.matches(key))
    }

    /// A mapping that owns keys which SORT may look up by `pattern`.
    #[must_use]
    pub fn looked_up(&self, pattern: &[u8]) -> Option<usize> {
        let keys = Pattern::of_sort(pattern)?;
        self.patterns.iter().position(|pattern| pattern.overlaps(&keys))
    }

    /// True when every key is a pass-through key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The pattern of mapping `id`.
    #[must_use]
    pub fn pattern(&self, id: usize) -> &Pattern {
        &self.patterns[id]
    }

    /// The mapping whose pattern is written like this.
    #[must_use]
    pub fn find(&self, pattern: &str) -> Option<usize> {
        self.patterns.iter().position(|p| p.text() == pattern)
    }

    /// Every pair of patterns that can match one key.
    #[must_use]
    pub fn overlaps(&self) -> Vec<(usize, usize)> {
        let pairs = |a: usize| (a + 1..self.patterns.len()).map(move |b| (a, b));
        (0..self.patterns.len())
            .flat_map(pairs)
            .filter(|&(a, b)| self.patterns[a].overlaps(&self.patterns[b]))
            .collect()
    }
}
