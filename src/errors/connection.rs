//! Errors about commands that do not fit what a connection is used for.

/// A command that the upstream has renamed, and that changes what the sidecar must know of a connection.
pub fn renamed(name: &str, original: &str) -> String {
    let original = original.replace('|', " ").to_ascii_uppercase();
    format!(
        "ERR hearthside: {name} is {original}, which the upstream has renamed (rename-command): the sidecar can follow \
         it under its own name only"
    )
}

/// A command of which it is not known what it sets, after many of them, behind a cluster.
pub const TOO_MUCH_SAID: &str = "ERR hearthside: this connection has set more than can be set again at each node of \
    the upstream's cluster; RESET it first";

/// A command of the sidecar's own after MONITOR or SCRIPT DEBUG, where replies cannot be told from what else comes.
pub const MONITORS_OR_DEBUGS: &str =
    "ERR hearthside: this command is not supported on a connection that monitors or debugs scripts; RESET it first";

/// CLIENT TRACKING with REDIRECT to a client that can have no connection of its own.
pub const REDIRECT_TARGET_HAS_NONE: &str = "ERR hearthside: the client to redirect to can have no upstream connection \
    of its own: none is free (upstream.pinned_max), the upstream does not tell its id (CLIENT ID), or the client uses \
    RESP2 with pubsub.mode = \"shared\"";
/// The same, to a client that does something else for long.
pub const REDIRECT_TARGET_WAITS: &str = "ERR hearthside: the client to redirect to waits in a blocking command, or \
    for its own replies; try again when it does not";
