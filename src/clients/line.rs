//! One line of CLIENT LIST.
//!
//! Source: <https://redis.io/docs/latest/commands/client-list/>

use std::sync::atomic::Ordering::Relaxed;

use super::{Peer, State};
use crate::telemetry::clock::Tick;

/// What the sidecar does not count for each client is shown as 0.
const UNKNOWN: &str = "qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0";

impl Peer {
    /// The client as CLIENT LIST and CLIENT INFO show it; `command` names a command of the table by its id.
    #[must_use]
    pub fn line(&self, command: impl Fn(usize) -> Option<&'static str>) -> String {
        let state = self.read(State::clone);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seconds = |from: Tick| Tick::now().since(from) / 1000;
        let command = self.command.load(Relaxed).checked_sub(1).and_then(command).unwrap_or("NULL");
        let [sub, psub, ssub] = state.subscribed;
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} \
             multi={} qbuf={} {UNKNOWN} omem={} tot-mem={} events=r cmd={command} user={} redir={} resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.addresses.0,
            self.addresses.1,
            self.fd,
            text(&state.name),
            seconds(self.since),
            seconds(self.seen()),
            flags(&state, self.addresses.0.starts_with('/')),
            state.db,
            state.queued.map_or(-1, |queued| queued as i64),
            self.holding.holds().saturating_sub(self.holding.owes()),
            self.holding.owes(),
            self.holding.holds(),
            state.user,
            state.redirect.map_or(if state.tracking { 0 } else { -1 }, |id| id as i64),
            state.resp,
            text(&state.lib_name),
            text(&state.lib_ver),
        )
    }
}

fn flags(state: &State, is_unix: bool) -> String {
    let marks = [
        (state.monitor, 'O'),
        (state.replica, 'S'),
        (state.subscribes(), 'P'),
        (state.queued.is_some(), 'x'),
        (state.blocked, 'b'),
        (state.tracking, 't'),
        (is_unix, 'U'),
        (state.no_evict, 'e'),
        (state.no_touch, 'T'),
    ];
    let flags: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    if flags.is_empty() { "N".into() } else { flags }
}
