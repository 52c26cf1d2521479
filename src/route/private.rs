//! Refuses requests that would open the private server to others or shut the sidecar out: it is reached over a socket
//! that no other process may open.

use super::Refusal;
use crate::command::{Request, Spec};
use crate::errors;
use crate::telemetry::refusals::By;

/// Settings that open a port, or ask for a password that the sidecar does not know.
const SETTINGS: [&str; 5] = ["port", "tls-port", "bind", "protected-mode", "requirepass"];

/// The answer to what would.
pub(super) fn refusal() -> Refusal {
    Refusal::by(By::Private, errors::denied::PRIVATE_SERVER)
}

/// True for the commands that [`opens_up`] must look at.
pub(super) fn may_open_up(spec: &Spec) -> bool {
    matches!(spec.name.as_str(), "config|set" | "acl|setuser")
}

/// True when one of those commands would let others in, or the sidecar out.
pub(super) fn opens_up(request: &Request<'_>) -> bool {
    if request.is(0, "CONFIG") {
        return (2..request.len()).step_by(2).any(|at| SETTINGS.iter().any(|name| request.is(at, name)));
    }
    request.len() > 2 && request.arg(2) == b"default"
}
