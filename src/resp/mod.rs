//! RESP on the wire: where a request or a reply ends, and how a synthesized reply is written.
//! Knows bytes only; never commands, keys or sockets.

pub mod decode;
pub mod encode;
pub mod inline;
pub mod invalidation;
pub mod key_channels;
pub mod number;
pub mod passage;
pub mod pieces;
pub mod pubsub;
pub mod reply;
pub mod request;

/// The protocol version a client chose with `HELLO` (RESP2 until it does).
///
/// Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proto {
    /// RESP2, the version every connection starts with.
    #[default]
    Resp2,
    /// RESP3, chosen with `HELLO 3`.
    Resp3,
}

impl Proto {
    /// The version number as `HELLO` spells it.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}
