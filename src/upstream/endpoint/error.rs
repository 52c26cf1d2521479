//! Why there is no connection to the upstream, and which of its errors say that another connection may find better.

use crate::telemetry::lack::NO_FILES;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No upstream is configured, and none could be started.
    #[error("ERR hearthside: {0}")]
    Absent(String),
    /// It cannot be reached; trying again later is safe, which is what client libraries understand by LOADING.
    #[error("LOADING hearthside: the upstream {0} does not answer: {1}; the command was not sent")]
    Unreachable(String, String),
    /// Own lack: it is not the upstream's fault.
    #[error("LOADING hearthside: no connection to the upstream can be opened: {NO_FILES}; the command was not sent")]
    NoFiles,
    /// It has as many clients as it may have.
    #[error(
        "LOADING hearthside: the upstream {0} has reached its own maxclients; raise it there, or lower \
         upstream.pinned_max or upstream.lanes here; the command was not sent"
    )]
    Full(String),
    /// The client, or the sidecar, is being closed.
    #[error("LOADING hearthside: the connection is being closed; the command was not sent")]
    Closing,
    /// It answered the greeting with this error.
    #[error("{0}")]
    Refused(String),
    /// Every connection that may be lent to one client alone is lent.
    #[error(
        "ERR hearthside: all {0} pinned connections are in use (upstream.pinned_max) and none came free within \
         upstream.pinned_timeout; the command was not sent"
    )]
    Busy(usize),
}

impl ConnectError {
    /// What happened, for logs: without what only a client must know.
    pub(crate) fn reason(&self) -> String {
        let told = self.to_string();
        let told = ["LOADING hearthside: ", "ERR hearthside: "]
            .iter()
            .find_map(|code| told.strip_prefix(code))
            .unwrap_or(&told);
        told.trim_end_matches("; the command was not sent").to_owned()
    }

    /// True for a lack of something that may be there in a moment, and says nothing of whether the upstream answers.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::NoFiles | Self::Full(_))
    }
}

/// True for errors of a server that does not let its user run a command, or does not have it.
pub(super) fn is_forbidden(error: &str) -> bool {
    error.starts_with("NOPERM ") || error.starts_with("ERR unknown command")
}

/// True for errors of a server that is no master now, and may soon be one or have a successor: it loads its data, lost
/// its master, or has become a replica. Another connection may lead to one that takes commands.
pub(crate) fn is_unready(error: &[u8]) -> bool {
    [&b"LOADING "[..], b"MASTERDOWN ", b"READONLY "].iter().any(|code| error.starts_with(code))
}
