//! Whether the store takes writes. A hot standby takes none, and neither do sessions of a server where
//! `default_transaction_read_only` is on. Knows no engine.
//!
//! A session of a standby follows its promotion. One that took its setting when it was opened keeps it: when somebody
//! is refused that nobody expected it of, a new session is asked, and those that are open are given up once the store
//! takes writes again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use arc_swap::ArcSwap;

use super::StoreError;

/// What the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Reads and writes.
    Writable,
    /// Reads only: it is a hot standby. It tells no changes either.
    Standby,
    /// Reads only: a setting says so.
    ReadOnly,
}

impl Standing {
    /// By what a session says of itself.
    pub(super) const fn of(is_in_recovery: bool, is_read_only: bool) -> Self {
        match (is_in_recovery, is_read_only) {
            (true, _) => Self::Standby,
            (false, true) => Self::ReadOnly,
            (false, false) => Self::Writable,
        }
    }

    /// True when it takes writes.
    #[must_use]
    pub fn takes_writes(self) -> bool {
        self == Self::Writable
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writable => "the store takes reads and writes",
            Self::Standby => {
                "the store is a hot standby: reads only. Writes are refused, deferred writes wait in the journal, and \
                 no changes are told, until it is promoted"
            }
            Self::ReadOnly => {
                "the store takes reads only (default_transaction_read_only). Writes are refused, and deferred writes \
                 wait in the journal, until the setting is off"
            }
        })
    }
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct KnownStanding {
    known: ArcSwap<Standing>,
    /// A write was refused that should not have been.
    is_doubted: AtomicBool,
}

impl KnownStanding {
    pub(super) fn new(standing: Standing) -> Self {
        Self { known: ArcSwap::from_pointee(standing), is_doubted: AtomicBool::new(false) }
    }

    pub(super) fn get(&self) -> Standing {
        **self.known.load()
    }

    /// Notes whether a statement was refused because the store takes reads only.
    pub(super) fn note<T>(&self, result: &Result<T, StoreError>) {
        if matches!(result, Err(StoreError::ReadOnly(_))) && self.get() != Standing::Standby {
            self.is_doubted.store(true, SeqCst);
        }
    }

    /// True when a session that is open already may say something that holds no longer, or not for others.
    pub(super) fn needs_another_session(&self) -> bool {
        self.is_doubted.load(SeqCst) || self.get() == Standing::ReadOnly
    }

    /// What a session says now. True when sessions of before may still refuse writes that the store takes.
    pub(super) fn is_now(&self, standing: Standing) -> bool {
        let was_doubted = self.is_doubted.swap(false, SeqCst);
        let before = self.known.swap(standing.into());
        standing.takes_writes() && (was_doubted || *before == Standing::ReadOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::{KnownStanding, Standing};
    use crate::store::StoreError;

    #[test]
    fn sessions_that_may_still_refuse_are_given_up() {
        let refused = || Err::<(), _>(StoreError::ReadOnly("no".into()));
        let known = KnownStanding::new(Standing::of(true, true));
        known.note(&refused());
        assert!(!known.needs_another_session(), "a session of a standby follows its promotion");
        assert!(!known.is_now(Standing::Writable));
        known.note(&refused());
        assert!(known.needs_another_session(), "nobody expected that");
        assert!(known.is_now(Standing::of(false, false)) && !known.needs_another_session());
        assert!(!known.is_now(Standing::of(false, true)) && known.needs_another_session());
        assert!(known.is_now(Standing::Writable) && !known.is_now(Standing::Writable));
    }
}
