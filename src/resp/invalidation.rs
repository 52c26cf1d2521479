//! What a client that tracks its keys is told when one of them has changed (CLIENT TRACKING).
//!
//! Source: <https://redis.io/docs/latest/develop/reference/client-side-caching/>

use bytes::{Bytes, BytesMut};

use super::{Proto, encode};

/// What comes before the keys in a push message.
pub const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
/// The same in the message to a subscriber that uses RESP2.
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";

/// The client must forget all of its keys.
pub const PUSH_ALL: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// The keys of a push message as they stand there, or `None` in it if it is about all keys; `None` for a message about
/// something else.
#[must_use]
pub fn keys(frame: &Bytes) -> Option<Option<Bytes>> {
    let keys = frame.strip_prefix(PUSH)?;
    Some(keys.starts_with(b"*").then(|| frame.slice_ref(keys)))
}

/// The message about these keys, or about all, for a client that uses this protocol.
#[must_use]
pub fn message(proto: Proto, keys: Option<&[u8]>) -> Bytes {
    let (head, all): (_, &[u8]) = match proto {
        Proto::Resp2 => (MESSAGE, b"$-1\r\n"),
        Proto::Resp3 => (PUSH, b"_\r\n"),
    };
    [head, keys.unwrap_or(all)].concat().into()
}

/// These keys as they stand in a message.
#[must_use]
pub fn array(keys: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    encode::request(&mut out, &keys.iter().map(|key| &**key).collect::<Vec<&[u8]>>());
    out.freeze()
}

/// The push message about these keys, or about all.
#[must_use]
pub fn push(keys: Option<&[Bytes]>) -> Bytes {
    message(Proto::Resp3, keys.map(array).as_deref())
}

/// The redirection to the client of this id is broken: that client is gone.
#[must_use]
pub fn broken(id: u64) -> Bytes {
    let mut out = BytesMut::from(&b">2\r\n$21\r\ntracking-redir-broken\r\n"[..]);
    encode::int(&mut out, id as i64);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{PUSH_ALL, Proto, keys, message};

    #[test]
    fn what_one_client_is_told_another_one_can_be_told() {
        let some = Bytes::from_static(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n");
        let told = keys(&some).expect("an invalidation");
        assert_eq!(told.as_deref(), Some(&b"*1\r\n$1\r\na\r\n"[..]));
        assert_eq!(message(Proto::Resp3, told.as_deref()), some);
        let told = keys(&Bytes::from_static(PUSH_ALL)).expect("an invalidation");
        assert_eq!((&told, &message(Proto::Resp3, None)[..]), (&None, PUSH_ALL));
        assert!(message(Proto::Resp2, None).ends_with(b"__redis__:invalidate\r\n$-1\r\n"));
        assert_eq!(keys(&Bytes::from_static(b">2\r\n$5\r\nother\r\n:1\r\n")), None);
    }
}
