//! Errors about owned keys: their mapping, named by its key pattern, or its store.

use std::borrow::Cow;

/// The mapping's store has not answered since the sidecar began, or does not fit the configuration.
pub fn waits_for_store(pattern: &str, why: &str) -> String {
    format!("LOADING hearthside: the mapping '{pattern}' waits for its store: {why}")
}

/// The mapping does not fit the store's schema; `why` says what is missing.
pub fn unfit(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the mapping '{pattern}' does not fit the store's schema: {why}")
}

/// The definitions of a mapping have never been loaded.
pub fn never_loaded(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the definitions of '{pattern}' have not been loaded yet: {why}")
}

/// A load failed; `why` is the store's reason.
pub fn not_read(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the mapping '{pattern}' could not be read: {why}")
}

/// The store is there and did not come to a command of this mapping in time; `why` is the store's reason.
pub fn overloaded(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the mapping '{pattern}' is overloaded, nothing was done, send it again later: {why}")
}

/// A write failed, and nothing has changed; `why` is the reason of the store or the journal.
pub fn not_written(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the mapping '{pattern}' was not written: {why}")
}

/// The store takes reads only, and nothing has changed; `why` is the store's reason.
pub fn takes_reads_only(pattern: &str, why: &str) -> String {
    format!("READONLY hearthside: the mapping '{pattern}' was not written: {why}")
}

/// A write may have been applied, or was in part: `why` says which.
pub fn maybe_written(pattern: &str, why: &str) -> String {
    format!("ERR hearthside: the mapping '{pattern}': {why}")
}

/// PERSIST, or GETEX with it, on a key whose row says when it expires, in a column that may not be NULL.
pub const MUST_END: &str = "ERR hearthside: the key cannot be without an expiry: the column that holds it is NOT NULL";

/// A write command on a key of a read-only mapping.
pub fn takes_no_writes(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} on '{key}': the mapping '{pattern}' takes no writes (write = \"reject\"); \
         write to the store, or set write = \"through\""
    )
}

/// The same of a mapping that could not take one: it is not a row of a table.
pub fn cannot_be_written(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} on '{key}': the mapping '{pattern}' takes no writes, because its key is no row of a \
         table: write to the store (a list may have push and remove)"
    )
}

/// A command that would delete a row, on a key of a mapping that deletes none.
pub fn deletes_no_rows(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} on '{key}': the mapping '{pattern}' deletes no rows; \
         set delete = \"row\" to allow it"
    )
}

/// A command that would make a value of another type than the mapping's.
pub fn other_shape(command: &str, key: &[u8], pattern: &str, shape: &str) -> String {
    let (command, key) = shown(command, key);
    format!("ERR hearthside: {command} on '{key}': keys of the mapping '{pattern}' hold a {shape}")
}

/// A command that the sidecar does not answer on owned keys.
pub fn not_answered(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} is not answered on the owned key '{key}' (mapping '{pattern}'); see \
         docs/COMPATIBILITY.md"
    )
}

/// A command of which the upstream does not tell which keys it touches, with an argument that looks like an owned key.
pub fn may_be_touched(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} may touch the owned key '{key}' (mapping '{pattern}'), and the upstream does not \
         tell its user which keys it touches: allow that user +command; see docs/COMPATIBILITY.md"
    )
}

/// SORT with a BY or GET that can name owned keys: the upstream would find nothing there, in silence.
pub fn cannot_look_up(command: &str, looked_up: &[u8], pattern: &str) -> String {
    let (command, looked_up) = shown(command, looked_up);
    format!(
        "ERR hearthside: {command} cannot look up '{looked_up}': the upstream does not hold the owned keys of the \
         mapping '{pattern}'; see docs/COMPATIBILITY.md"
    )
}

/// SCAN with a cursor of the sidecar's that it has forgotten, or never gave.
pub const FORGOTTEN_CURSOR: &str = "ERR invalid cursor; hearthside knows it no more (a restart?), begin at 0 again";

/// A command's name and a key as they stand in a text.
pub(super) fn shown<'a>(command: &str, key: &'a [u8]) -> (String, Cow<'a, str>) {
    (command.to_ascii_uppercase(), String::from_utf8_lossy(key))
}
