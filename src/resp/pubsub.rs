//! The frames of Pub/Sub: what is a message, what confirms a subscription, and what is neither.
//!
//! Source: <https://redis.io/docs/latest/develop/pubsub/>

use memchr::memchr;

use super::number::parse_i64;

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    /// The command that subscribes, or with `on` false unsubscribes; confirmations begin with it.
    #[must_use]
    pub const fn word(self, on: bool) -> &'static str {
        match (self, on) {
            (Self::Channel, true) => "subscribe",
            (Self::Channel, false) => "unsubscribe",
            (Self::Pattern, true) => "psubscribe",
            (Self::Pattern, false) => "punsubscribe",
            (Self::Shard, true) => "ssubscribe",
            (Self::Shard, false) => "sunsubscribe",
        }
    }
}

/// What a frame of a subscriber's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PubSub<'a> {
    /// Kind, what it names (`None`: nothing was subscribed), and whether it is subscribed now.
    Confirmation(Kind, Option<&'a [u8]>, bool),
    /// A message for a channel, pattern or shard channel.
    Message(Kind, &'a [u8]),
}

/// On this channel the sidecar itself tells the clients that are subscribed to it when their subscriptions were lost
/// for a time: they may have missed messages.
pub const GAP: &[u8] = b"__hearthside__:gap";

/// The message on [`GAP`], without its first byte (`*` in RESP2, `>` in RESP3).
pub const GAP_MESSAGE: &[u8] =
    b"3\r\n$7\r\nmessage\r\n$18\r\n__hearthside__:gap\r\n$29\r\nmessages may have been missed\r\n";

/// Reads the head of a frame; `None` when it is neither a message nor a confirmation.
#[must_use]
pub fn read(frame: &[u8]) -> Option<PubSub<'_>> {
    let (b'*' | b'>', rest) = frame.split_first()? else { return None };
    let (count, rest) = (rest.first()?, rest.get(3..)?);
    let (word, rest) = string(rest)?;
    let (name, _) = string(rest)?;
    let confirmed = |kind, on| Some(PubSub::Confirmation(kind, name, on));
    match (count, word?) {
        (b'3', b"message") => Some(PubSub::Message(Kind::Channel, name?)),
        (b'4', b"pmessage") => Some(PubSub::Message(Kind::Pattern, name?)),
        (b'3', b"smessage") => Some(PubSub::Message(Kind::Shard, name?)),
        (b'3', b"subscribe") => confirmed(Kind::Channel, true),
        (b'3', b"unsubscribe") => confirmed(Kind::Channel, false),
        (b'3', b"psubscribe") => confirmed(Kind::Pattern, true),
        (b'3', b"punsubscribe") => confirmed(Kind::Pattern, false),
        (b'3', b"ssubscribe") => confirmed(Kind::Shard, true),
        (b'3', b"sunsubscribe") => confirmed(Kind::Shard, false),
        _ => None,
    }
}

/// The channel of a message that a pattern has matched.
#[must_use]
pub fn channel_of_pattern(frame: &[u8]) -> Option<&[u8]> {
    let (word, rest) = string(frame.get(4..)?)?;
    let (_pattern, rest) = string(rest).filter(|_| word == Some(b"pmessage"))?;
    string(rest)?.0
}

type Rest<'a> = (Option<&'a [u8]>, &'a [u8]);

/// A bulk string or a null, and what is behind it.
fn string(bytes: &[u8]) -> Option<Rest<'_>> {
    let end = memchr(b'\r', bytes)?;
    let rest = bytes.get(end + 2..)?;
    match &bytes[..end] {
        b"_" | b"$-1" => Some((None, rest)),
        [b'$', length @ ..] => {
            let length = usize::try_from(parse_i64(length)?).ok()?;
            Some((Some(rest.get(..length)?), rest.get(length + 2..)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{GAP, GAP_MESSAGE, Kind, PubSub, channel_of_pattern, read};

    #[test]
    fn the_notice_of_a_gap_is_a_message() {
        let frame = [b"*", GAP_MESSAGE].concat();
        assert_eq!(read(&frame), Some(PubSub::Message(Kind::Channel, GAP)));
        let mut scanner = crate::resp::reply::ReplyScanner::default();
        let step = scanner.scan(&frame).expect("a frame");
        assert!(step.end.is_some() && step.used == frame.len());
    }

    #[test]
    fn what_a_pattern_has_matched_is_read() {
        let frame = b"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n";
        assert_eq!(channel_of_pattern(frame), Some(&b"ab"[..]));
        assert_eq!(channel_of_pattern(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"), None);
        assert_eq!(channel_of_pattern(b"+OK\r\n"), None);
    }

    #[test]
    fn messages_and_confirmations_are_told_from_replies() {
        let confirmed = |kind, name, on| Some(PubSub::Confirmation(kind, name, on));
        for (frame, expected) in [
            (&b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"[..], confirmed(Kind::Channel, Some(&b"a"[..]), true)),
            (b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n", confirmed(Kind::Channel, None, false)),
            (b"*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n", confirmed(Kind::Shard, None, false)),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", Some(PubSub::Message(Kind::Channel, b"a"))),
            (
                b">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$2\r\nhi\r\n",
                Some(PubSub::Message(Kind::Pattern, b"a*")),
            ),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", None),
            (b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", None),
            (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", None),
            (b"+PONG\r\n", None),
            (b"*0\r\n", None),
        ] {
            assert_eq!(read(frame), expected, "{}", String::from_utf8_lossy(frame));
        }
    }
}
