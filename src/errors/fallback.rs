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
pub fn only_upstream_has(command: &str, key: &[u8], pattern: &str) -> String {
    let (command, key) = shown(command, key);
    format!(
        "ERR hearthside: {command} on '{key}': only the upstream has this key, and the mapping '{pattern}' (mode = \
         \"fallback\") writes none to the store: write it there by other means, or set write = \"through\""
    )
}

/// Why a change of such a key has not been made: its mapping is in another mode meanwhile.
pub const CHANGED_OVER: &str = "the mapping has another mode since; send it again";

/// The upstream does not answer, and a change would not be certain without it; `why` is its error.
pub fn needs_upstream(pattern: &str, why: &str) -> String {
    format!(
        "ERR hearthside: keys of the mapping '{pattern}' (mode = \"fallback\") are not changed while the upstream \
         does not answer, nothing was done: {why}"
    )
}
