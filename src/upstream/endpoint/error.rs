//! Why there is no connection to the upstream, and which of its errors another connection may not meet.

use crate::errors;
use crate::telemetry::out_of_files::NO_FILES;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No upstream is configured, and none could be started.
    #[error("{}", errors::upstream::absent(.0))]
    Absent(String),
    /// It cannot be reached; trying again later is safe, which is what client libraries understand by LOADING.
    #[error("{}", errors::upstream::unreachable(.0, .1))]
    Unreachable(String, String),
    /// Own lack: it is not the upstream's fault.
    #[error("{}", errors::upstream::no_files(NO_FILES))]
    NoFiles,
    /// It has as many clients as it may have.
    #[error("{}", errors::upstream::full(.0))]
    Full(String),
    /// The node does not belong to the cluster any more, or has failed.
    #[error("{}", errors::upstream::RETIRED)]
    Retired,
    /// The client, or the sidecar, is being closed.
    #[error("{}", errors::upstream::CLOSING)]
    Closing,
    /// It answered the greeting with this error.
    #[error("{0}")]
    Refused(String),
    /// Every connection that may be lent to one client alone is lent.
    #[error("{}", errors::upstream::all_pinned(*.0))]
    Busy(usize),
}

impl ConnectError {
    /// What happened, for logs: without what only a client must know.
    pub(crate) fn reason(&self) -> String {
        errors::upstream::reason(&self.to_string()).to_owned()
    }

    /// True for a lack of something that may be there in a moment, and says nothing of whether the upstream answers.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::NoFiles | Self::Full(_))
    }
}

/// True for errors of a server that does not let its user run a command, or does not have it.
pub(super) fn is_forbidden(error: &str) -> bool {
    error.starts_with("NOPERM ") || error.starts_with(errors::as_redis::UNKNOWN_COMMAND)
}

/// True for errors of a server that is no master now, and may soon be one or have a successor: it loads its data, lost
/// its master, or has become a replica. Another connection may lead to one that takes commands.
pub(crate) fn is_unready(error: &[u8]) -> bool {
    [&b"LOADING "[..], b"MASTERDOWN ", b"READONLY "].iter().any(|code| error.starts_with(code))
}
