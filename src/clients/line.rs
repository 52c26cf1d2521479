//! One line of CLIENT LIST: the fields that the server's generation has, in its order.
//!
//! Source: <https://redis.io/docs/latest/commands/client-list/>, <https://valkey.io/commands/client-list/>

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::generation::{ALWAYS, Generation, Since};
use super::traffic::Held;
use super::{Peer, State, flags};
use crate::telemetry::clock::Tick;

/// A client at the moment of the line.
struct Moment<'a> {
    peer: &'a Peer,
    state: State,
    command: &'static str,
    held: Held,
    /// Bytes that wait for it beyond what may be written now, and all that is held for it.
    owes: usize,
    holds: usize,
}

/// Writes a value.
type Value = fn(&Moment<'_>, &mut String) -> std::fmt::Result;

/// A field: its name, who has it, and its value.
type Field = (&'static str, Since, Value);

const LIBRARY: Since = Since { redis: Some((7, 2)), valkey: Some((0, 0)) };
const CAPA: Since = Since { redis: None, valkey: Some((8, 1)) };
const WATCH: Since = Since { redis: Some((7, 4)), valkey: Some((8, 0)) };
const THREAD: Since = Since { redis: Some((8, 0)), valkey: None };
const TOTALS: Since = Since { redis: Some((8, 2)), valkey: Some((8, 0)) };

const FIELDS: [Field; 36] = [
    ("id", ALWAYS, |c, out| write!(out, "{}", c.peer.id)),
    ("addr", ALWAYS, |c, out| out.write_str(&c.peer.addresses.0)),
    ("laddr", ALWAYS, |c, out| out.write_str(&c.peer.addresses.1)),
    ("fd", ALWAYS, |c, out| write!(out, "{}", c.peer.fd)),
    ("name", ALWAYS, |c, out| out.write_str(&String::from_utf8_lossy(&c.state.name))),
    ("age", ALWAYS, |c, out| write!(out, "{}", seconds(c.peer.since))),
    ("idle", ALWAYS, |c, out| write!(out, "{}", seconds(c.peer.heard()))),
    ("flags", ALWAYS, |c, out| out.write_str(&flags::of(c.peer, &c.state))),
    ("capa", CAPA, |c, out| out.write_str(if c.state.redirects { "r" } else { "" })),
    ("db", ALWAYS, |c, out| write!(out, "{}", c.state.db)),
    ("sub", ALWAYS, |c, out| write!(out, "{}", c.state.subscribed[0])),
    ("psub", ALWAYS, |c, out| write!(out, "{}", c.state.subscribed[1])),
    ("ssub", ALWAYS, |c, out| write!(out, "{}", c.state.subscribed[2])),
    ("multi", ALWAYS, |c, out| write!(out, "{}", c.state.queued.map_or(-1, |queued| queued as i64))),
    ("watch", WATCH, |c, out| write!(out, "{}", c.state.watching)),
    ("qbuf", ALWAYS, |c, out| write!(out, "{}", c.held.query)),
    ("qbuf-free", ALWAYS, |c, out| write!(out, "{}", c.held.query_free)),
    ("argv-mem", ALWAYS, |c, out| write!(out, "{}", c.held.arguments)),
    ("multi-mem", ALWAYS, |c, out| write!(out, "{}", c.held.queued)),
    ("rbs", ALWAYS, |c, out| write!(out, "{}", c.held.reply_room)),
    ("rbp", ALWAYS, |c, out| write!(out, "{}", c.peer.traffic.reply_peak())),
    ("obl", ALWAYS, |c, out| write!(out, "{}", c.held.replies)),
    ("oll", ALWAYS, |c, out| write!(out, "{}", c.held.entries)),
    ("omem", ALWAYS, |c, out| write!(out, "{}", c.owes)),
    ("tot-mem", ALWAYS, |c, out| write!(out, "{}", c.holds)),
    ("events", ALWAYS, |c, out| out.write_str(if c.peer.stalled_since().is_some() { "rw" } else { "r" })),
    ("cmd", ALWAYS, |c, out| out.write_str(c.command)),
    ("user", ALWAYS, |c, out| out.write_str(&c.state.user)),
    ("redir", ALWAYS, |c, out| write!(out, "{}", redirection(&c.state))),
    ("resp", ALWAYS, |c, out| write!(out, "{}", c.state.resp)),
    ("lib-name", LIBRARY, |c, out| out.write_str(&String::from_utf8_lossy(&c.state.lib_name))),
    ("lib-ver", LIBRARY, |c, out| out.write_str(&String::from_utf8_lossy(&c.state.lib_ver))),
    ("io-thread", THREAD, |c, out| write!(out, "{}", c.peer.worker)),
    ("tot-net-in", TOTALS, |c, out| write!(out, "{}", c.peer.traffic.totals()[0])),
    ("tot-net-out", TOTALS, |c, out| write!(out, "{}", c.peer.traffic.totals()[1])),
    ("tot-cmds", TOTALS, |c, out| write!(out, "{}", c.peer.traffic.totals()[2])),
];

fn seconds(from: Tick) -> u64 {
    Tick::now().since(from) / 1000
}

fn redirection(state: &State) -> i64 {
    state.redirect.map_or(if state.tracking { 0 } else { -1 }, |id| id as i64)
}

impl Peer {
    /// The client as CLIENT LIST and INFO of such a server show it; `command` names a command of the table by its id.
    #[must_use]
    pub fn line(&self, generation: Generation, command: impl Fn(usize) -> Option<&'static str>) -> String {
        let held = self.traffic.held();
        let moment = Moment {
            peer: self,
            state: self.read(State::clone),
            command: self.command.load(Relaxed).checked_sub(1).and_then(command).unwrap_or("NULL"),
            held,
            owes: self.holding.owes_now().saturating_sub(held.replies),
            holds: self.holding.holds_now() + held.queued + size_of::<Self>(),
        };
        let mut line = String::new();
        for (name, since, value) in &FIELDS {
            if generation.has(*since) {
                let separator = if line.is_empty() { "" } else { " " };
                // Writing to a String cannot fail.
                let _ = write!(line, "{separator}{name}=");
                let _ = value(&moment, &mut line);
            }
        }
        line.push('\n');
        line
    }
}
