//! Which server a client takes the sidecar for: that decides which fields a line of CLIENT LIST has, and by what CLIENT
//! LIST and KILL select.

/// A server's kind and version, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    is_valkey: bool,
    version: (u16, u16),
}

/// The first version of each server that has something; `None`: it never had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) redis: Option<(u16, u16)>,
    pub(super) valkey: Option<(u16, u16)>,
}

/// In every version of both.
pub(super) const ALWAYS: Since = Since { redis: Some((0, 0)), valkey: Some((0, 0)) };

impl Generation {
    /// By what a server says of itself. Who names itself otherwise is taken for a Redis of that version.
    #[must_use]
    pub fn of(server: &str, version: &str) -> Self {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { is_valkey: server == "valkey", version }
    }

    pub(super) fn has(self, since: Since) -> bool {
        let first = if self.is_valkey { since.valkey } else { since.redis };
        first.is_some_and(|first| self.version >= first)
    }

    /// True where CLIENT LIST and KILL select alike, by any condition.
    pub(super) fn selects_by_all(self) -> bool {
        self.has(Since { redis: None, valkey: Some((8, 1)) })
    }

    /// True where CLIENT KILL has MAXAGE.
    pub(super) fn kills_by_age(self) -> bool {
        self.has(Since { redis: Some((7, 4)), valkey: Some((8, 0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::{ALWAYS, Generation, Since};

    #[test]
    fn a_version_has_what_came_before_it() {
        let since = Since { redis: Some((7, 4)), valkey: None };
        for (server, version, has) in [
            ("redis", "7.0.15", false),
            ("redis", "7.4.0", true),
            ("redis", "8.2.3", true),
            ("redis", "10.0", true),
            ("valkey", "9.1.2", false),
            ("other", "8.0", true),
            ("redis", "", false),
        ] {
            let generation = Generation::of(server, version);
            assert_eq!((generation.has(since), generation.has(ALWAYS)), (has, true), "{server} {version}");
        }
    }
}
