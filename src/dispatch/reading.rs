//! Which reads a replica may answer: those of keys that `upstream.read_keys` allows, by a client that shares its lane,
//! and that has not written lately.

use crate::command::{Request, Spec};
use crate::config;
use crate::keys::glob_match;
use crate::route::Route;
use crate::session::Session;
use crate::telemetry::clock::millis;
use crate::upstream::{To, Upstream};

/// Notes what a request that goes `route` means for the client's reads, and lets it go to a replica if it may.
#[inline(never)]
pub(super) fn note(upstream: &Upstream, session: &mut Session, request: &Request<'_>, route: &Route) {
    session.recency.asks(writes(route));
    let (Route::PassThrough(true), Some(spec)) = (route, session.spec) else { return };
    let settings = &upstream.endpoint().settings;
    let is_free = session.way.connection().is_none() && session.recency.may_lag(session.now, millis(settings.read_lag));
    if is_free && is_plain(spec) && names_allowed(settings, request, spec, upstream.is_cluster()) {
        session.to = To::Reader(session.to.slot());
    }
}

/// True for what may change something at the upstream, or for the connection that it goes over.
const fn writes(route: &Route) -> bool {
    match route {
        Route::PassThrough(only_reads) => !*only_reads,
        Route::Transaction(..) | Route::Pinned(..) | Route::Unknown(_) | Route::Unanswered | Route::Split(_) => true,
        // What it changes may be the upstream's.
        Route::Fallback(_) => true,
        Route::Spread(_, spec) => !spec.flags.readonly,
        Route::Local(..)
        | Route::Hearthside
        | Route::Near(_)
        | Route::Definition(..)
        | Route::Cached(..)
        | Route::NotAnswered(_)
        | Route::Unproven
        | Route::Held(_)
        | Route::Attack
        | Route::Refused(_) => false,
    }
}

/// True for a command that any server which has the keys answers alike. A script may look at keys that it does not
/// name, as SORT_RO does; a cursor means something to the server that gave it only; and how a key is kept there, or
/// when it was last touched, is each server's own.
fn is_plain(spec: &Spec) -> bool {
    let name = spec.name.as_str();
    let is_script = name.starts_with("eval") || name.starts_with("fcall");
    let is_its_own = name.starts_with("object|") || name == "touch" || name == "memory|usage" || name.ends_with("scan");
    spec.flags.readonly && !spec.flags.write && !spec.has_hidden_keys && !is_script && !is_its_own
}

/// True when all keys may be read from replicas, and there is one. In a cluster there is one only: of several, some may
/// be on their way to another node.
fn names_allowed(settings: &config::Upstream, request: &Request<'_>, spec: &Spec, is_cluster: bool) -> bool {
    let (mut keys, mut are_allowed) = (0, true);
    request.each_key(spec, |at| {
        keys += 1;
        are_allowed = are_allowed && may_be_read(settings, request.arg(at));
    });
    are_allowed && keys > 0 && (keys == 1 || !is_cluster)
}

fn may_be_read(settings: &config::Upstream, key: &[u8]) -> bool {
    settings.read_keys.iter().any(|pattern| pattern == "*" || glob_match(pattern.as_bytes(), key))
}
