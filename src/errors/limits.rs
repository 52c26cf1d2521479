//! Errors about limits: each names its setting. Those on one request are in `protocol`, those on newcomers in Redis's
//! words.

/// A client that asks faster than it may.
pub fn too_fast(most: u32) -> String {
    format!(
        "ERR hearthside: this client sends more than {most} requests a second (limits.requests_per_second); the \
         command was not sent"
    )
}

/// A reply that is gathered (MGET, KEYS, a command that is split) and that no memory may hold.
pub const REPLY_TOO_LONG: &str = "ERR hearthside: the reply would be longer than all clients may hold (limits.buffers)";

/// More commands on owned keys inside MULTI than are kept until EXEC.
pub fn transaction_too_long(most: usize) -> String {
    format!(
        "ERR hearthside: the commands on owned keys in this transaction are longer than {most} bytes (limits.request)"
    )
}
