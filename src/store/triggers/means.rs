//! By what triggers tell of a change. Pure.

/// It.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Means {
    /// By a notice for each commit.
    Notices,
    /// By rows of the outbox while somebody reads it, else by notices.
    Outbox,
}

impl Means {
    /// Whom notices go to.
    pub(in crate::store) const fn channel(self) -> &'static str {
        match self {
            Self::Notices => "hearthside",
            Self::Outbox => "hearthside_outbox",
        }
    }
}
