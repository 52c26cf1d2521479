//! Errors about what the configuration does not allow; a user's rules also speak in Redis's words.

/// A command that the configuration denies to everybody.
pub fn by_list(entry: &str) -> String {
    format!("NOPERM hearthside: {entry} is denied by security.deny; take it out of that list to allow it")
}

/// A script, SORT or an unknown command, from a user that may not touch all keys.
pub fn hidden_keys(command: &str) -> String {
    format!("NOPERM hearthside: '{command}' may touch keys that it does not name, and this user may not touch all keys")
}

/// CONFIG SET or ACL SETUSER that would let others into the private server, or the sidecar out of it.
pub const PRIVATE_SERVER: &str = "NOPERM hearthside: the private redis-server is for this sidecar alone: its ports, \
    addresses and default user are not to be changed. Set upstream.url to a Redis of your own for that";
