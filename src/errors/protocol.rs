//! Requests that cannot be any: what follows `ERR Protocol error: `, in the words of Redis 7.0 (`networking.c`,
//! `processMultibulkBuffer` and `processInlineBuffer`) unless a setting is named. The client is closed behind it.

/// A `*` line without an end.
pub const BIG_COUNT: &str = "too big mbulk count string";
/// A `*` line that is no number.
pub const COUNT: &str = "invalid multibulk length";
/// A `$` line without an end.
pub const BIG_LENGTH: &str = "too big bulk count string";
/// A `$` line that is no number.
pub const LENGTH: &str = "invalid bulk length";
/// A request that must be gathered, and is too long for that.
pub const TOO_LONG: &str = "the request is too long (limits.request)";
/// Many arguments from somebody who has not authenticated.
pub const UNAUTHENTICATED_COUNT: &str = "unauthenticated multibulk length";
/// A long argument from somebody who has not authenticated.
pub const UNAUTHENTICATED_LENGTH: &str = "unauthenticated bulk length";
/// An inline request without an end.
pub const BIG_INLINE: &str = "too big inline request";
/// An inline request with an open quote.
pub const QUOTES: &str = "unbalanced quotes in request";

/// Something else where an argument should begin.
pub fn expected(got: u8) -> String {
    format!("expected '$', got '{}'", char::from(got))
}

/// An argument of more bytes than any may have.
pub fn too_large(most: usize) -> String {
    format!("invalid bulk length: more than {most} bytes (limits.request_argument)")
}

/// More arguments than any request may have.
pub fn too_many(most: usize) -> String {
    format!("invalid multibulk length: more than {most} arguments (limits.request_arguments)")
}

/// The whole error. A byte that is no text stands in it as it came: each character of a fault is one byte.
pub fn error(fault: &str) -> Vec<u8> {
    let bytes = fault.chars().map(|c| c as u8);
    b"ERR Protocol error: ".iter().copied().chain(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::{error, expected};

    #[test]
    fn a_byte_that_is_no_text_stands_in_the_error_as_it_came() {
        assert_eq!(error(&expected(0xff)), b"ERR Protocol error: expected '$', got '\xff'");
    }
}
