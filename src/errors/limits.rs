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

/// The clients of a user send faster than its block allows.
pub fn user_too_fast(user: &str, rate: &str) -> String {
    format!(
        "LIMIT hearthside: the clients of the user '{user}' send more than {rate} (rate of its [[users]] block); the \
         command was not sent: slow down, or raise the limit"
    )
}

/// A command of a user needs a load, and too many of the user's are under way.
pub fn user_loads_too_much(user: &str, most: u32) -> String {
    format!(
        "LIMIT hearthside: keys are being loaded from the store for {most} commands of the user '{user}' (loads of its \
         [[users]] block); nothing was done: send it again later, or raise the limit"
    )
}

/// A key must be loaded, and too many of its mapping were.
pub fn mapping_loads_too_fast(pattern: &str, rate: &str) -> String {
    format!(
        "LIMIT hearthside: more than {rate} of the mapping '{pattern}' would be loaded from the store (load_rate of \
         its block); keys in memory are answered: send it again later, or raise the limit"
    )
}

/// A key must be loaded, and too many of its mapping are being loaded.
pub fn mapping_loads_too_much(pattern: &str, most: u32) -> String {
    format!(
        "LIMIT hearthside: keys of the mapping '{pattern}' are being loaded from the store for {most} commands (loads \
         of its block); keys in memory are answered: send it again later, or raise the limit"
    )
}
