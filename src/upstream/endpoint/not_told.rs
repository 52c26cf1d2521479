//! Why a server does not tell the sidecar itself what it asks.

use redis::{RedisError, ServerError};

/// Why the upstream does not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// Its user may not ask that; the text says what would permit it.
    #[error("{0}")]
    Forbidden(String),
    /// It does not answer, or not that.
    #[error("{0}")]
    Silent(String),
}

impl NotTold {
    fn of(code: Option<&str>, error: String) -> Self {
        if code == Some("NOPERM") { Self::Forbidden(remedy(&error)) } else { Self::Silent(error) }
    }
}

impl From<RedisError> for NotTold {
    fn from(error: RedisError) -> Self {
        Self::of(error.code(), error.to_string())
    }
}

impl From<&ServerError> for NotTold {
    fn from(error: &ServerError) -> Self {
        Self::of(Some(error.code()), error.to_string())
    }
}

/// What its user may not do, and the rule that permits it. Servers name the command as rules do, in quotation marks.
fn remedy(error: &str) -> String {
    let named = error.split_once(" run the '").and_then(|(_, rest)| rest.split_once("' command"));
    match named {
        Some((name, _)) => {
            let command = name.to_uppercase().replace('|', " ");
            format!("the user of upstream.url may not run {command}: permit it with +{name} (ACL SETUSER)")
        }
        None => format!(
            "the user of upstream.url may not do that ({error}): permit it the keys of the mapping with ~ and their \
             pattern (ACL SETUSER)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::NotTold;

    #[test]
    fn what_is_forbidden_is_said_with_the_rule_that_permits_it() {
        for (error, expected) in [
            (
                "NOPERM: this user has no permissions to run the 'cluster|nodes' command",
                "may not run CLUSTER NODES: permit it with +cluster|nodes (ACL SETUSER)",
            ),
            (
                "NOPERM: User few has no permissions to run the 'scan' command",
                "may not run SCAN: permit it with +scan (ACL SETUSER)",
            ),
            (
                "NOPERM: this user has no permissions to run the 'cluster' command or its subcommand",
                "may not run CLUSTER: permit it with +cluster (ACL SETUSER)",
            ),
            (
                "NOPERM: No permissions to access a key",
                "may not do that (NOPERM: No permissions to access a key): permit it the keys of the mapping with ~ \
                 and their pattern (ACL SETUSER)",
            ),
        ] {
            let told = NotTold::of(Some("NOPERM"), error.to_owned());
            assert_eq!(told, NotTold::Forbidden(format!("the user of upstream.url {expected}")));
        }
        let other = NotTold::of(Some("ERR"), "ERR: run the 'scan' command".to_owned());
        assert_eq!(other, NotTold::Silent("ERR: run the 'scan' command".to_owned()));
    }
}
