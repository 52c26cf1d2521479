//! Errors of keys that the upstream has and the store has not, of mappings with `mode = "fallback"`.

use super::owned::shown;

/// The upstream has a value that cannot be brought into the store; `why` says what does not fit. Nothing was done.
pub fn does_not_fit(command: &str, key: &[u8], pattern: &str, why: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} on '{key}': only the upstream has this key, and it does not fit the mapping \
         '{pattern}' (mode = \"fallback\"): {why}; nothing was done: mend the mapping, or DEL the key"
    )
}

/// A command that would need the value in the store, of a mapping by which nothing is written there.
pub fn only_upstream_has(command: &str, key: &[u8], pattern: &str, may_be_written: bool) -> String {
    let (command, key) = shown(command, key);
    let or = if may_be_written { ", or set write = \"through\"" } else { "" };
    format!(
        "ERR hearthside: {command} on '{key}': only the upstream has this key, and the mapping '{pattern}' (mode = \
         \"fallback\") writes none to the store: write it there by other means{or}"
    )
}

/// Why a change of such a key has not been made: its mapping is in another mode meanwhile.
pub const CHANGED_OVER: &str = "the mapping has another mode since; send it again";

/// A change of such a key by a client of another database: keys that are brought over, and back, are those of one.
pub fn other_database(pattern: &str, first: i64, own: i64) -> String {
    format!(
        "ERR hearthside: keys of the mapping '{pattern}' (mode = \"fallback\") are those of database {first} \
         (upstream.url), and this client is in database {own}, nothing was done: SELECT {first}, or write the \
         application's database into upstream.url"
    )
}

/// The answer of the upstream to a removal was lost; `why` is what became of the connection.
pub fn may_be_removed(pattern: &str, why: &str) -> String {
    format!(
        "ERR hearthside: keys of the mapping '{pattern}' (mode = \"fallback\"): keys may have been removed at the \
         upstream, whose answer was lost: {why}"
    )
}

/// Some keys of a command were removed at the upstream, and then one of the sides failed; `why` is its error.
pub fn partly_removed(why: &str) -> String {
    let why = why.split_once(' ').map_or(why, |(_, rest)| rest);
    format!("ERR hearthside: a part of the keys may have been removed, and the others have not: {why}")
}

/// The upstream does not answer, and a change would not be certain without it; `why` is its error.
pub fn needs_upstream(pattern: &str, why: &str) -> String {
    format!(
        "ERR hearthside: keys of the mapping '{pattern}' (mode = \"fallback\") are not changed while the upstream \
         does not answer, nothing was done: {why}"
    )
}
