//! The errors by which a node of a cluster sends a request elsewhere.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding>

use std::time::Duration;

use crate::errors::as_redis::READ_ONLY;
use crate::upstream::endpoint::target::Host;

/// The pause before a request is sent again to a cluster that is changing.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// What a node says instead of an answer. It has done nothing of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// `MOVED`: another node owns the slot from now on.
    Moved(u16, Host),
    /// `ASK`: another node is about to have the slot, and has the key; only this request goes there.
    Ask(u16, Host),
    /// `TRYAGAIN`: some of the keys have been moved, and some have not.
    TryAgain,
    /// `CLUSTERDOWN`: the slot has no owner now; or the node is no master any more, and ends what waited there.
    Down,
    /// `READONLY`: the node is a replica now; another one has its slots.
    Demoted,
    /// A replica cannot answer, or may not know.
    Primary,
    /// What was never sent, because the node is gone or was not reached.
    Unsent,
}

impl Redirect {
    /// Reads a whole reply, given by the node at `asked`. What a script says in words of its own is none.
    pub(crate) fn read(reply: &[u8], asked: &Host) -> Option<Self> {
        let text = std::str::from_utf8(reply.strip_prefix(b"-")?.trim_ascii_end()).ok()?;
        let mut words = text.split(' ');
        match words.next()? {
            "MOVED" => {
                let slot = words.next()?.parse().ok()?;
                Some(Self::Moved(slot, host(words.next()?, asked)?))
            }
            "ASK" => {
                let slot = words.next()?.parse().ok()?;
                Some(Self::Ask(slot, host(words.next()?, asked)?))
            }
            "TRYAGAIN" if text == TRY_AGAIN => Some(Self::TryAgain),
            "CLUSTERDOWN" if DOWN.contains(&text) => Some(Self::Down),
            "READONLY" if text == READ_ONLY => Some(Self::Demoted),
            "UNBLOCKED" if words.next() == Some("force") => Some(Self::Down),
            "LOADING" if words.next() == Some("hearthside:") => Some(Self::Unsent),
            _ => None,
        }
    }
}

impl Redirect {
    /// False where a request for a key of this slot is sent elsewhere because of another slot: no server says that.
    pub(crate) fn may_concern(&self, asked: Option<u16>) -> bool {
        match self {
            Self::Moved(slot, _) | Self::Ask(slot, _) => asked.is_none_or(|asked| asked == *slot),
            _ => true,
        }
    }
}

/// What servers say word for word.
const TRY_AGAIN: &str = "TRYAGAIN Multiple keys request during rehashing of slot";
const DOWN: [&str; 3] = [
    "CLUSTERDOWN Hash slot not served",
    "CLUSTERDOWN The cluster is down",
    "CLUSTERDOWN The cluster is down and only accepts read commands",
];

/// `host:port`, where a node that does not know the name of another one leaves it out: it is that of who was asked.
fn host(text: &str, asked: &Host) -> Option<Host> {
    let (name, port) = text.rsplit_once(':')?;
    let name = if name.is_empty() || name == "?" { &asked.name } else { name };
    Some(Host { name: name.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Host, Redirect};

    #[test]
    fn redirections_are_read() {
        let asked = Host { name: "asked".into(), port: 1 };
        let host = |name: &str, port| Host { name: name.into(), port };
        for (reply, expected) in [
            ("-MOVED 3999 127.0.0.1:6381\r\n", Some(Redirect::Moved(3999, host("127.0.0.1", 6381)))),
            ("-MOVED 3999 :6381\r\n", Some(Redirect::Moved(3999, host("asked", 6381)))),
            ("-ASK 3999 2001:db8::1:6381\r\n", Some(Redirect::Ask(3999, host("2001:db8::1", 6381)))),
            ("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Some(Redirect::TryAgain)),
            ("-TRYAGAIN later\r\n", None),
            ("-CLUSTERDOWN Hash slot not served\r\n", Some(Redirect::Down)),
            ("-CLUSTERDOWN says a script\r\n", None),
            ("-READONLY You can't write against a read only replica.\r\n", Some(Redirect::Demoted)),
            ("-READONLY You can't write against a read only replica. script: x\r\n", None),
            ("-UNBLOCKED force unblock from blocking operation, instance state changed\r\n", Some(Redirect::Down)),
            ("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", None),
            ("-LOADING hearthside: gone\r\n", Some(Redirect::Unsent)),
            ("-LOADING Redis is loading the dataset in memory\r\n", None),
            ("-MOVED x\r\n", None),
            ("+MOVED 1 a:1\r\n", None),
        ] {
            assert_eq!(Redirect::read(reply.as_bytes(), &asked), expected, "{reply}");
        }
    }
}
