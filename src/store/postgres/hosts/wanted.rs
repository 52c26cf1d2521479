//! Which of several servers is wanted, as libpq's `target_session_attrs` says it.
//! Source: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS>

use crate::store::standing::Standing;

/// What a server must take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing is asked of it.
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A hot standby, or else any.
    PreferStandby,
}

impl Wanted {
    const ALL: [Self; 6] =
        [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby];

    /// By its word.
    pub(super) fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wanted| wanted.word() == word)
    }

    /// As libpq has it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    /// How well a server fits: 0 is best. `None` when it does not.
    pub(super) fn rank(self, standing: Standing) -> Option<u8> {
        let is_standby = standing == Standing::Standby;
        match self {
            Self::Any => Some(0),
            Self::ReadWrite => standing.takes_writes().then_some(0),
            Self::ReadOnly => (!standing.takes_writes()).then_some(0),
            Self::Primary => (!is_standby).then_some(0),
            Self::Standby => is_standby.then_some(0),
            Self::PreferStandby => Some(u8::from(!is_standby)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use crate::store::standing::Standing::{ReadOnly, Standby, Writable};

    #[test]
    fn each_word_asks_for_what_libpq_does() {
        for (word, of_writable, of_standby, of_read_only) in [
            ("any", Some(0), Some(0), Some(0)),
            ("read-write", Some(0), None, None),
            ("read-only", None, Some(0), Some(0)),
            ("primary", Some(0), None, Some(0)),
            ("standby", None, Some(0), None),
            ("prefer-standby", Some(1), Some(0), Some(1)),
        ] {
            let wanted = Wanted::read(word).expect(word);
            let ranks = [Writable, Standby, ReadOnly].map(|standing| wanted.rank(standing));
            assert_eq!(ranks, [of_writable, of_standby, of_read_only], "{word}");
        }
        assert_eq!(Wanted::read("master"), None);
    }
}
