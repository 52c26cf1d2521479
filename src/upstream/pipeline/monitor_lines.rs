//! Which of a monitor's lines show what the sidecar itself has said to the upstream: how a connection is greeted, and
//! how the upstream is asked whether it is there. They are told by the name that is in them, so those of other sidecars
//! are, too, and their addresses do not matter.

use std::collections::VecDeque;

use memchr::memmem;

/// Most connections that are greeted at once, as far as they are noticed.
const MOST: usize = 64;
/// What begins a greeting, and what ends it.
const BEGINS: &[u8] = b"\"SETNAME\" \"hearthside\"";
const ENDS: &[u8] = b"\"PING\" \"hearthside\"";
/// What a lane to a Valkey begins with.
const ASKS: &[u8] = b"\"CLIENT\" \"CAPA\" \"redirect\"\r\n";
/// What stands between them.
const BETWEEN: [&[u8]; 6] = [
    b"\"SELECT\" \"",
    b"\"HELLO\" \"",
    b"\"CLIENT\" \"ID\"",
    b"\"INFO\" \"server\"",
    b"\"INFO\" \"replication\"",
    b"\"COMMAND\"\r\n",
];

/// Remembers which connections are being greeted.
#[derive(Debug, Default)]
pub(crate) struct OwnLines {
    greeted: VecDeque<Box<[u8]>>,
    /// Every line is left out.
    are_all: bool,
}

impl OwnLines {
    /// The lines of one server; those of a node of a cluster are all left out.
    pub(crate) fn of(is_cluster: bool) -> Self {
        Self { are_all: is_cluster, ..Self::default() }
    }

    /// True for a line of the sidecar's own.
    pub(super) fn is_own(&mut self, frame: &[u8]) -> bool {
        let Some((address, command)) = read(frame) else { return false };
        if self.are_all {
            return true;
        }
        let at = self.greeted.iter().position(|greeted| **greeted == *address);
        if command.eq_ignore_ascii_case(ASKS) {
            return true;
        }
        if command.starts_with(ENDS) {
            at.map(|at| self.greeted.remove(at));
            return true;
        }
        let names = command.starts_with(b"\"HELLO\" ") || command.starts_with(b"\"CLIENT\" ");
        if names && memmem::find(command, BEGINS).is_some() {
            if at.is_none() {
                self.greeted.truncate(MOST - 1);
                self.greeted.push_front(address.into());
            }
            return true;
        }
        let Some(at) = at else { return false };
        if BETWEEN.iter().any(|between| command.starts_with(between)) {
            return true;
        }
        self.greeted.remove(at);
        false
    }
}

/// The address and the command of a line: `+1700000000.123456 [0 127.0.0.1:6000] "GET" "a"`.
fn read(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = frame.strip_prefix(b"+").filter(|line| line.first().is_some_and(u8::is_ascii_digit))?;
    let from = memmem::find(line, b" [")? + 2;
    let to = from + memmem::find(&line[from..], b"] ")?;
    let address = line[from..to].splitn(2, |byte| *byte == b' ').nth(1)?;
    Some((address, &line[to + 2..]))
}

#[cfg(test)]
mod tests {
    use super::{MOST, OwnLines};

    fn line(client: usize, command: &str) -> String {
        format!("+1700000000.123456 [0 127.0.0.1:{client}] {command}\r\n")
    }

    #[test]
    fn greetings_are_told_from_what_clients_say() {
        let mut lines = OwnLines::default();
        for (client, command, is_own) in [
            (1, r#""GET" "a""#, false),
            (1, r#""SELECT" "3""#, false),
            (2, r#""HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "hearthside""#, true),
            (1, r#""SELECT" "3""#, false),
            (2, r#""SELECT" "3""#, true),
            (2, r#""PING" "hearthside""#, true),
            (2, r#""SELECT" "4""#, false),
            (3, r#""CLIENT" "SETNAME" "hearthside""#, true),
            (3, r#""CLIENT" "ID""#, true),
            (3, r#""GET" "a""#, false),
            (3, r#""CLIENT" "ID""#, false),
            (4, r#""HELLO" "2" "SETNAME" "hearthside" "SETNAME" "worker""#, true),
            (4, r#""BLPOP" "a" "0""#, false),
            (4, r#""SET" "SETNAME" "\"SETNAME\" \"hearthside\"""#, false),
            (5, r#""PING" "hearthside""#, true),
            (5, r#""PING""#, false),
        ] {
            assert_eq!(lines.is_own(line(client, command).as_bytes()), is_own, "{client}: {command}");
        }
        for other in ["+OK\r\n", "+1\r\n", "$4\r\nPING\r\n", "+1.2 [0 lua] \"GET\"\r\n", "+1 [x] \"PING\"\r\n"] {
            assert!(!lines.is_own(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn nothing_of_a_node_is_shown_but_what_it_answers() {
        let mut lines = OwnLines::of(true);
        assert!(lines.is_own(line(1, r#""GET" "a""#).as_bytes()) && lines.is_own(b"+1.2 [0 lua] \"GET\" \"a\"\r\n"));
        assert!(!lines.is_own(b"+PONG\r\n") && !lines.is_own(b"-ERR\r\n"));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let mut lines = OwnLines::default();
        for client in 0..10 * MOST {
            assert!(lines.is_own(line(client, r#""HELLO" "3" "SETNAME" "hearthside""#).as_bytes()));
        }
        assert_eq!(lines.greeted.len(), MOST);
        assert!(lines.is_own(line(10 * MOST - 1, r#""SELECT" "1""#).as_bytes()));
        assert!(!lines.is_own(line(0, r#""SELECT" "1""#).as_bytes()));
    }
}
