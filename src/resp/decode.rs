//! Decodes the few small replies that the sidecar itself asked an upstream for (handshake, INFO).
//! Never used for a reply that belongs to a client: those travel as raw bytes.
//! The bytes must have passed the boundary scanner first, which bounds what this recursive decoder sees.

use redis_protocol::resp2::decode::decode as decode2;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::decode::complete::decode as decode3;
use redis_protocol::resp3::types::OwnedFrame as Frame3;

use super::Proto;

/// The text of a bulk, verbatim or simple string reply; `None` for every other kind.
#[must_use]
pub fn text(reply: &[u8], proto: Proto) -> Option<Vec<u8>> {
    match proto {
        Proto::Resp2 => match decode2(reply).ok()??.0 {
            Frame2::BulkString(bytes) | Frame2::SimpleString(bytes) => Some(bytes),
            _ => None,
        },
        Proto::Resp3 => match decode3(reply).ok()??.0 {
            Frame3::BlobString { data, .. }
            | Frame3::SimpleString { data, .. }
            | Frame3::VerbatimString { data, .. } => Some(data),
            _ => None,
        },
    }
}

/// An error reply's text without its `-`; `None` when the reply is no error.
#[must_use]
pub fn error(reply: &[u8]) -> Option<String> {
    let line = reply.strip_prefix(b"-")?;
    let end = memchr::memchr(b'\r', line).unwrap_or(line.len());
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}

/// An integer reply's value; `None` when the reply is something else.
#[must_use]
pub fn integer(reply: &[u8]) -> Option<i64> {
    super::number::parse_i64(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// The text of a bulk string, as it stands in a reply's bytes; `None` for every other kind.
#[must_use]
pub fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\n', rest)?;
    rest[end + 1..].strip_suffix(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::{error, integer, text};
    use crate::resp::Proto;

    #[test]
    fn reads_the_replies_it_is_for() {
        assert_eq!(text(b"$2\r\nhi\r\n", Proto::Resp2), Some(b"hi".to_vec()));
        assert_eq!(text(b"=6\r\ntxt:hi\r\n", Proto::Resp3), Some(b"hi".to_vec()));
        assert_eq!(text(b":1\r\n", Proto::Resp2), None);
        assert_eq!(error(b"-NOAUTH no\r\n").as_deref(), Some("NOAUTH no"));
        assert_eq!(error(b"+OK\r\n"), None);
        assert_eq!(integer(b":-3\r\n"), Some(-3));
    }
}
