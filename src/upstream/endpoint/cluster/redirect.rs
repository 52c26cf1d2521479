//! The errors by which a node of a cluster sends a request elsewhere.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding>

use std::time::Duration;

use bytes::Bytes;

use super::known_node;
use crate::errors::as_redis::READ_ONLY;
use crate::errors::upstream::{RETIRED, UNSETTLED};
use crate::upstream::endpoint::Endpoint;
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
    /// What was never sent, because the node was not reached.
    Unsent,
    /// What was never sent, because the node is gone, or has failed: another one has its slots, or will have them.
    Retired,
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
            "LOADING" if text == RETIRED => Some(Self::Retired),
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

    /// True where it sends a request for a key of the slot `asked` to a node of this cluster: a script that gives such
    /// an error names another slot, or a host of which no node knows.
    pub(crate) fn is_by_node(&self, upstream: &Endpoint, asked: Option<u16>) -> bool {
        let (Self::Moved(_, node) | Self::Ask(_, node)) = self else { return false };
        self.may_concern(asked) && known_node(upstream, node).is_some()
    }
}

/// The same replies for a client that knows of no cluster, where a node sends a request elsewhere and it has been to
/// and fro for too long. A transaction that is sent elsewhere is answered by replies of one line each.
pub(crate) fn told_plainly(replies: &[u8]) -> Bytes {
    let is_redirection = |line: &[u8]| line.starts_with(b"-MOVED ") || line.starts_with(b"-ASK ");
    let ours = format!("-{UNSETTLED}\r\n");
    let lines = replies.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| if is_redirection(line) { ours.as_bytes() } else { line }).collect::<Vec<_>>().concat().into()
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
    use super::{Host, Redirect, UNSETTLED, told_plainly};

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

    #[test]
    fn a_redirection_that_leads_nowhere_is_told_in_words_for_plain_clients() {
        let replies = b"+OK\r\n-MOVED 1 a:1\r\n+QUEUED\r\n-ASK 1 a:1\r\n-EXECABORT -MOVED of it\r\n";
        let told = format!("+OK\r\n-{UNSETTLED}\r\n+QUEUED\r\n-{UNSETTLED}\r\n-EXECABORT -MOVED of it\r\n");
        assert_eq!(told_plainly(replies), told);
    }
}
