//! Counts what clients were refused, and logs it now and then: failed logins, requests without permission, and input
//! that is no request.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::LogThrottle;
use super::metrics::ReasonLabel;

/// At most so many letters of a client's text are logged.
const MOST: usize = 64;

/// Who does not permit a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The rules of its user.
    Rules,
    /// `security.deny`.
    Deny,
    /// The sidecar, for the private server's sake.
    Private,
}

impl By {
    /// Each of them.
    pub(super) const ALL: [Self; 3] = [Self::Rules, Self::Deny, Self::Private];

    const fn text(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Deny => "deny",
            Self::Private => "private",
        }
    }
}

/// Labels of `hearthside_commands_denied_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeniedLabel {
    /// [`By`], in lower case.
    pub by: &'static str,
}

impl From<By> for DeniedLabel {
    fn from(by: By) -> Self {
        Self { by: by.text() }
    }
}

/// Whom a line is about.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// Its address.
    pub address: String,
    /// As whom it came, or tries to come; shortened, and escaped.
    pub user: String,
}

/// The counters, and when each kind was logged last.
#[derive(Debug)]
pub struct Refusals {
    logins: Family<ReasonLabel, Counter>,
    denied: Family<DeniedLabel, Counter>,
    logged_logins: LogThrottle,
    logged_denied: [LogThrottle; 3],
    logged_faults: LogThrottle,
}

impl Refusals {
    pub(super) fn new(logins: Family<ReasonLabel, Counter>, denied: Family<DeniedLabel, Counter>) -> Self {
        let (logged_logins, logged_denied, logged_faults) = Default::default();
        Self { logins, denied, logged_logins, logged_denied, logged_faults }
    }

    /// A login was refused: `password`, or by the `upstream`.
    pub fn login(&self, reason: &'static str, who: impl FnOnce() -> Who) {
        self.logins.get_or_create(&ReasonLabel { reason }).inc();
        if let Some(unlogged) = self.logged_logins.due() {
            let Who { address, user } = who();
            tracing::warn!(address, user, reason, unlogged, "a login was refused");
        }
    }

    /// A command was refused.
    pub fn denied(&self, by: By, command: &str, who: impl FnOnce() -> Who) {
        let due = self.logged_denied[by as usize].due();
        self.denied.get_or_create(&by.into()).inc();
        let by = by.text();
        if let Some(unlogged) = due {
            let Who { address, user } = who();
            let command = shown(command.as_bytes());
            tracing::info!(address, user, by, command, unlogged, "a command was refused (NOPERM)");
        }
    }

    /// A client sent what is no request, and is closed.
    pub fn fault(&self, address: &str, fault: &dyn std::fmt::Display) {
        if let Some(unlogged) = self.logged_faults.due() {
            tracing::info!(address, %fault, unlogged, "a client sent what is no request and is closed");
        }
    }
}

/// The beginning of a text that somebody else chose, escaped: it cannot be taken for more of the log.
#[must_use]
pub fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let rest = if text.chars().nth(MOST).is_some() { "..." } else { "" };
    text.chars().take(MOST).flat_map(char::escape_default).chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_text_of_somebody_elses_is_short_and_on_one_line() {
        assert_eq!(shown(b"game"), "game");
        assert_eq!(shown(b"a\n\x1b[31mWARN \xff"), "a\\n\\u{1b}[31mWARN \\u{fffd}");
        assert_eq!(shown(&[b'x'; 65]), format!("{}...", "x".repeat(64)));
    }
}
