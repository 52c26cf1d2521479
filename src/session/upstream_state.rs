//! What the upstream keeps for a connection, so that its client cannot share it.

use crate::command::Request;
use crate::telemetry::clock::Tick;

/// A client to which another one's invalidations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The client's id here.
    pub client: u64,
    /// The id of that client's own connection at the upstream.
    pub connection: i64,
}

/// How far a client has come that makes itself a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replica {
    /// It is none.
    #[default]
    No,
    /// It has said something of itself (REPLCONF).
    Announced,
    /// It follows the upstream: it has sent SYNC or PSYNC, by this name.
    Follows(&'static str),
}

/// States that the upstream keeps for a connection; while one of them is set, no other client may use the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    /// `CLIENT TRACKING ON`.
    pub tracking: bool,
    /// The client to which the invalidations go (`REDIRECT`).
    pub redirect: Option<Redirect>,
    /// Invalidations of other clients go to this connection.
    pub target: bool,
    /// `CLIENT NO-EVICT ON`.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH ON`.
    pub no_touch: bool,
    /// `CLIENT IMPORT-SOURCE ON`.
    pub import: bool,
    /// `CLIENT TRACKING ON BCAST`.
    pub broadcasts: bool,
    /// READONLY or ASKING (cluster).
    pub cluster: bool,
    /// SCRIPT DEBUG.
    pub debug: bool,
    /// MONITOR.
    pub monitor: bool,
    /// REPLCONF, SYNC and PSYNC.
    pub replica: Replica,
    /// When a command that the table does not know last went through, unless that is long ago. What it may
    /// have left ends with the connection.
    pub unknown: Option<Tick>,
    /// A command was accepted that sets something for the connection, it is not known what: that is kept until the
    /// client leaves.
    pub unknown_state: bool,
}

impl UpstreamState {
    /// None of them.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            tracking: false,
            redirect: None,
            target: false,
            no_evict: false,
            no_touch: false,
            import: false,
            broadcasts: false,
            cluster: false,
            debug: false,
            monitor: false,
            replica: Replica::No,
            unknown: None,
            unknown_state: false,
        }
    }

    /// True while one of them is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self != Self::nothing()
    }

    /// True when none of them is known to be set, though a command that the table does not know may have left
    /// something.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        Self { unknown: None, ..self.clone() } == Self::nothing()
    }

    /// True when all of it can be said again over another connection: CLIENT TRACKING of the client's own keys, and
    /// what is set by one word.
    #[must_use]
    pub fn is_said_again(&self) -> bool {
        let Self { tracking, broadcasts, no_evict, no_touch, import, .. } = *self;
        *self == Self { tracking, broadcasts, no_evict, no_touch, import, ..Self::nothing() }
    }

    /// True while replies cannot be distinguished from other messages.
    #[must_use]
    pub const fn is_raw(&self) -> bool {
        self.monitor || self.debug || self.follows_by().is_some()
    }

    /// True where the end of the connection is an end that is usual: of a debugging session, or of a replica that took
    /// a copy.
    #[must_use]
    pub const fn ends_with_connection(&self) -> bool {
        self.debug || self.follows_by().is_some()
    }

    /// The command by which the client follows the upstream, if it does: whatever it was answered would stand in the
    /// middle of what it follows.
    #[must_use]
    pub const fn follows_by(&self) -> Option<&'static str> {
        if let Replica::Follows(command) = self.replica { Some(command) } else { None }
    }

    /// Takes into account a command that the upstream has accepted.
    pub fn accept(&mut self, request: &Request<'_>) {
        let on = request.is(2, "ON");
        match () {
            () if request.is(0, "READONLY") || request.is(0, "ASKING") => self.cluster = true,
            () if request.is(0, "READWRITE") => self.cluster = false,
            () if request.is(1, "TRACKING") => {
                self.tracking = on;
                self.redirect = self.redirect.filter(|_| on);
                self.broadcasts = on && (3..request.len()).any(|i| request.is(i, "BCAST"));
            }
            () if request.is(1, "NO-EVICT") => self.no_evict = on,
            () if request.is(1, "NO-TOUCH") => self.no_touch = on,
            () if request.is(1, "IMPORT-SOURCE") => self.import = on,
            () => {}
        }
    }
}
