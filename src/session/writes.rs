//! Keys of the near cache that a client's requests may change, until these have been answered. A request that joins a
//! batch takes its own along; those of all others are kept until everything of the client has been answered.

use crate::near::Detached;

/// What of a client's requests is under way.
#[derive(Debug, Default)]
pub struct Writes {
    /// Of the last request, while it is not known which way it goes.
    last: Option<Box<Detached>>,
    /// Of requests that have no batch.
    kept: Option<Box<Detached>>,
}

/// Both as one.
pub fn joined(one: Option<Box<Detached>>, other: Option<Box<Detached>>) -> Option<Box<Detached>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.join(*other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

impl Writes {
    /// Another request may change this. The one before has joined no batch, if it has not been taken.
    pub fn begin(&mut self, detached: Option<Box<Detached>>) {
        if let Some(last) = self.last.take() {
            self.kept = joined(self.kept.take(), Some(last));
        }
        self.last = detached;
    }

    /// What the last request may change, which joins a batch.
    #[inline]
    pub const fn take(&mut self) -> Option<Box<Detached>> {
        self.last.take()
    }

    /// True while something is kept until everything has been answered.
    #[must_use]
    pub const fn are_kept(&self) -> bool {
        self.last.is_some() || self.kept.is_some()
    }

    /// Everything has been answered.
    pub fn end(&mut self) {
        (self.last, self.kept) = (None, None);
    }
}
