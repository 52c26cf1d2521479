//! Why a client keeps an upstream connection of its own.

use crate::command::Request;

/// A client that another's invalidations go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Its id here.
    pub client: u64,
    /// The id of its own connection at the upstream.
    pub connection: i64,
}

/// States that the upstream keeps for a connection; while one is set no other client may share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// `CLIENT TRACKING ON`.
    pub tracking: bool,
    /// The client its invalidations go to (`REDIRECT`).
    pub redirect: Option<Redirect>,
    /// `CLIENT NO-EVICT ON`.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH ON`.
    pub no_touch: bool,
    /// `CLIENT IMPORT-SOURCE ON`.
    pub import: bool,
    /// READONLY or ASKING (cluster).
    pub cluster: bool,
    /// SCRIPT DEBUG.
    pub debug: bool,
    /// MONITOR.
    pub monitor: bool,
    /// A command that the table does not know went through. What it may have left ends with the connection, which the
    /// client keeps for a while.
    pub unknown: bool,
    /// A subcommand of CLIENT that the table does not know was accepted: that is kept until the client leaves.
    pub unknown_state: bool,
}

impl Hold {
    /// True while something must stay where it is.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// True when the upstream keeps nothing of this that is known, though the client may have a connection of its own.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        Self { unknown: false, ..self.clone() } == Self::default()
    }

    /// True while replies cannot be told from what else comes.
    #[must_use]
    pub const fn is_raw(&self) -> bool {
        self.monitor || self.debug
    }

    /// Takes a state command into account that the upstream has accepted.
    pub fn accept(&mut self, request: &Request<'_>) {
        let on = request.is(2, "ON");
        match () {
            () if request.is(0, "READONLY") || request.is(0, "ASKING") => self.cluster = true,
            () if request.is(0, "READWRITE") => self.cluster = false,
            () if request.is(1, "TRACKING") => {
                self.tracking = on;
                self.redirect = self.redirect.filter(|_| on);
            }
            () if request.is(1, "NO-EVICT") => self.no_evict = on,
            () if request.is(1, "NO-TOUCH") => self.no_touch = on,
            () if request.is(1, "IMPORT-SOURCE") => self.import = on,
            () => {}
        }
    }
}
