//! The upstream's replies while commands are queued: QUEUED, or the reason why one is refused.

const QUEUED: &[u8] = b"+QUEUED\r\n";

/// The one of several replies, each a line, that tells how all of them went: the first error, else the last.
#[must_use]
pub fn summary(replies: &[u8]) -> &[u8] {
    let lines = || replies.split_inclusive(|byte| *byte == b'\n');
    lines().find(|line| line.starts_with(b"-")).or_else(|| lines().next_back()).unwrap_or_default()
}

/// True when one of these whole replies is an error.
#[must_use]
pub fn refuses(replies: &[u8]) -> bool {
    let are_queued = replies.chunks(QUEUED.len()).all(|reply| reply == QUEUED);
    !are_queued && summary(replies).starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::{refuses, summary};

    #[test]
    fn an_error_comes_before_anything_else() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"", b""),
            (b"+OK\r\n+QUEUED\r\n", b"+QUEUED\r\n"),
            (b"-NOPERM multi\r\n+OK\r\n", b"-NOPERM multi\r\n"),
            (b"+OK\r\n-ERR a\r\n-ERR b\r\n", b"-ERR a\r\n"),
            (b"+OK\r\n*0\r\n", b"*0\r\n"),
        ];
        for (replies, one) in cases {
            assert_eq!((summary(replies), refuses(replies)), (one, one.starts_with(b"-")));
        }
        assert!(!refuses(&b"+QUEUED\r\n".repeat(1000)));
        assert!(refuses(&[&b"+QUEUED\r\n".repeat(1000)[..], b"-ERR x\r\n", b"+QUEUED\r\n"].concat()));
    }
}
