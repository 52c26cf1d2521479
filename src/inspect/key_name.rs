//! A key as it is told: keys are any bytes, and what tells of them is text.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// A key as text, and percent-encoded where it is none: its bytes stand as `\xff` in the text then.
pub(super) fn told(key: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(key) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (key.escape_ascii().to_string(), Some(percent_encode(key, NON_ALPHANUMERIC).to_string())),
    }
}
