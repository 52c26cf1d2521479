//! Where a client has written, behind a cluster, and not been answered yet: what it publishes then must not arrive
//! before what it has written can be read.

use crate::upstream::To;

/// Where writes are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    /// Nowhere.
    #[default]
    Nowhere,
    /// There alone.
    At(To),
    /// It is not known that it is one place.
    Anywhere,
}

impl Written {
    /// A write is on its way there.
    pub fn note(&mut self, to: To) {
        *self = match *self {
            Self::Nowhere => Self::At(to),
            Self::At(known) if known == to => return,
            Self::At(_) | Self::Anywhere => Self::Anywhere,
        };
    }

    /// True when what is sent there now is done behind all writes.
    #[must_use]
    pub fn is_before(self, to: To) -> bool {
        matches!(self, Self::Nowhere) || self == Self::At(to)
    }
}

#[cfg(test)]
mod tests {
    use super::{To, Written};

    #[test]
    fn what_goes_to_the_one_place_of_all_writes_comes_behind_them() {
        let mut written = Written::default();
        assert!(written.is_before(To::Home) && written.is_before(To::Slot(1)));
        written.note(To::Slot(1));
        written.note(To::Slot(1));
        assert!(written.is_before(To::Slot(1)) && !written.is_before(To::Home));
        written.note(To::Home);
        assert!(!written.is_before(To::Slot(1)) && !written.is_before(To::Home));
    }
}
