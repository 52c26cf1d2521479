//! The flags of a client, as CLIENT LIST shows them: a letter for each state that it is in.

use super::{Peer, State};

/// The letters, in their order; `N` without any.
pub(super) fn of(peer: &Peer, state: &State) -> String {
    let marks = [
        (state.monitor, 'O'),
        (state.replica, 'S'),
        (state.subscribes(), 'P'),
        (state.queued.is_some(), 'x'),
        (state.blocked, 'b'),
        (state.tracking, 't'),
        (state.tracking && state.broadcasts, 'B'),
        (peer.addresses.0.starts_with('/'), 'U'),
        (state.readonly, 'r'),
        (state.no_evict, 'e'),
        (state.no_touch, 'T'),
        (state.import, 'I'),
    ];
    let flags: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    if flags.is_empty() { "N".into() } else { flags }
}
