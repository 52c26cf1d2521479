//! Decides where a command inside MULTI is answered.

use bytes::BytesMut;

use super::queued::Queued;
use crate::command::{OwnedRequest, Request, Spec};
use crate::config::AuthMode;
use crate::dispatch::{Services, greeted, write_refusal};
use crate::errors;
use crate::record::Verb;
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::resp::pubsub::Kind;
use crate::route::{Holder, Local, Pin, Route, Router, Split, SplitKeys, Spread};
use crate::session::Session;

pub(super) enum Place {
    /// Runs there.
    Upstream(Queued),
    /// Runs there in this form, perhaps as several commands.
    Rewritten(Vec<BytesMut>, Queued),
    /// Subscribes there.
    Subscribe(Kind, bool),
    /// Runs here, at EXEC.
    Here,
    /// Cannot be queued.
    Refused(String),
}

pub(super) fn place(services: &Services, session: &mut Session, request: &Request<'_>, route: &Route) -> Place {
    match route {
        Route::PassThrough(_) if pushes(request) => Place::Refused(errors::transaction::DEBUG_PUSH.into()),
        Route::Attack | Route::Unproven | Route::Held(_) | Route::Fallback(_) => {
            Place::Refused(errors::transaction::NOT_A_COMMAND.into())
        }
        Route::PassThrough(_) | Route::Near(_) | Route::Unanswered | Route::Transaction(..) => {
            Place::Upstream(Queued::Upstream(1))
        }
        Route::Unknown(unknown) => Place::Upstream(Queued::Unknown(*unknown)),
        Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), spec) if services.has_hub(session) => {
            Place::Refused(errors::transaction::shared_subscription(&spec.name))
        }
        Route::Pinned(Pin::State, _) if services.upstream.is_cluster() && request.is(1, "TRACKING") => {
            Place::Refused(errors::transaction::TRACKING.into())
        }
        Route::Pinned(pin, spec) => pinned(*pin, request, spec),
        Route::Local(Local::Select, spec) => select(request, spec),
        Route::Local(Local::Hello, spec) => hello(services, session, request, spec),
        Route::Local(Local::Auth, _) if services.access.mode == AuthMode::Upstream => {
            Place::Refused(errors::transaction::AUTH.into())
        }
        Route::Local(_, spec) if spec.flags.no_multi && spec.accepts(request.len()) => {
            Place::Refused(errors::as_redis::not_in_multi(&spec.name))
        }
        Route::Local(_, spec) => here(request, spec),
        Route::Hearthside => Place::Here,
        Route::Spread(Spread::Slots(..), _) => Place::Refused(errors::upstream::several_slots(&request.name())),
        Route::Spread(..) => Place::Refused(errors::upstream::several_nodes(&request.name())),
        Route::Refused(refusal) => Place::Refused(refusal.text.clone()),
        Route::Definition(..) | Route::Cached(..) | Route::NotAnswered(_) => owned(services, request, route),
        Route::Split(keys) => split(&services.router, request, keys),
    }
}

/// A command on one owned key.
fn owned(services: &Services, request: &Request<'_>, route: &Route) -> Place {
    let Some(key) = route.owned_key() else { return Place::Here };
    if services.owned.is_loading(key.mapping) {
        return Place::Refused(services.owned.loading_error(key.mapping));
    }
    let refusal = match route {
        Route::NotAnswered(_) => Some(services.router.unanswered(request, key.at, key.mapping)),
        Route::Cached(_, Verb::Write(verb)) => {
            write_refusal(&services.owned.mappings.list[key.mapping.index()], request, *key, *verb)
        }
        _ => None,
    };
    refusal.map_or_else(|| here(request, key.spec), Place::Refused)
}

/// The one command that pushes something besides its reply.
pub fn pushes(request: &Request<'_>) -> bool {
    request.is(0, "DEBUG") && request.is(2, "PUSH")
}

/// At EXEC the upstream itself says what cannot be done there (MONITOR, SCRIPT DEBUG); what would wait does not.
fn pinned(pin: Pin, request: &Request<'_>, spec: &Spec) -> Place {
    match pin {
        // At EXEC the upstream refuses SSUBSCRIBE, which is one reply.
        Pin::Subscribe(kind) if kind == Kind::Shard || !spec.accepts(request.len()) => {
            Place::Upstream(Queued::Upstream(1))
        }
        Pin::Subscribe(kind) => Place::Subscribe(kind, true),
        Pin::Unsubscribe(kind) => Place::Subscribe(kind, false),
        Pin::State if (3..request.len()).any(|i| request.is(i, "REDIRECT")) => {
            Place::Refused(errors::transaction::TRACKING_REDIRECT.into())
        }
        Pin::State => Place::Upstream(Queued::State(OwnedRequest::copy(request))),
        Pin::Replica => Place::Refused(errors::transaction::REPLCONF.into()),
        Pin::Blocking | Pin::Wait | Pin::Debug | Pin::Monitor | Pin::Aside | Pin::Follow => {
            Place::Upstream(Queued::Upstream(1))
        }
    }
}

/// The upstream's connection changes its protocol where the client's does; credentials are ours to judge.
fn hello(services: &Services, session: &mut Session, request: &Request<'_>, spec: &Spec) -> Place {
    if !spec.accepts(request.len()) {
        return Place::Refused(spec.arity_error());
    }
    if services.access.mode != AuthMode::None && (2..request.len()).any(|i| request.is(i, "AUTH")) {
        return Place::Refused(errors::transaction::HELLO_AUTH.into());
    }
    if greeted(services, session, request).is_err() {
        return Place::Here;
    }
    let mut bytes = BytesMut::new();
    encode::request(&mut bytes, &(0..request.len().min(2)).map(|i| request.arg(i)).collect::<Vec<_>>());
    Place::Rewritten(vec![bytes], Queued::Hello(OwnedRequest::copy(request)))
}

/// Inside MULTI a command over both kinds of keys would have to run half here and half there.
fn split(router: &Router, request: &Request<'_>, keys: &SplitKeys) -> Place {
    let refusal = keys.keys.iter().find_map(|key| match key.holder {
        Holder::Upstream => Some(errors::transaction::both_kinds(&keys.spec.name)),
        Holder::Definitions(mapping) if keys.split == Split::Remove => {
            Some(router.unanswered(request, key.at, mapping))
        }
        Holder::Definitions(_) | Holder::Cache(_) => None,
    });
    refusal.map_or(Place::Here, Place::Refused)
}

fn here(request: &Request<'_>, spec: &Spec) -> Place {
    if spec.accepts(request.len()) { Place::Here } else { Place::Refused(spec.arity_error()) }
}

/// Queued upstream, which says whether there is such a database.
fn select(request: &Request<'_>, spec: &Spec) -> Place {
    match parse_i64(request.arg(1)) {
        Some(db) if spec.accepts(request.len()) => Place::Upstream(Queued::Select(db)),
        _ => Place::Upstream(Queued::Upstream(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Queued, here, pinned, pushes, select, split};
    use crate::command::{OwnedRequest, lookup};
    use crate::keys::{Keyspace, Pattern};
    use crate::mapping::Kind;
    use crate::route::{Route, Router};

    fn request(line: &str) -> OwnedRequest {
        OwnedRequest::from_words(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    fn shown(place: Place) -> String {
        match place {
            Place::Here => "here".into(),
            Place::Refused(text) => text,
            Place::Subscribe(kind, on) => format!("{kind:?} {on}"),
            Place::Rewritten(..) => "rewritten".into(),
            Place::Upstream(Queued::Upstream(replies)) => format!("upstream {replies}"),
            Place::Upstream(Queued::State(_)) => "upstream, a state".into(),
            Place::Upstream(Queued::Select(db)) => format!("upstream, database {db}"),
            Place::Upstream(_) => "upstream".into(),
        }
    }

    #[test]
    fn several_keys_are_queued_here_if_all_are_owned() {
        let patterns = ["cached:{x}", "defined:{x}"].map(|text| Pattern::parse(text).expect("a pattern"));
        let router = Router::new(Keyspace::new(patterns.into()), vec![Kind::Cache, Kind::Definition], &[]);
        for (line, expected) in [
            ("DEL cached:1 cached:2", "here"),
            ("MGET cached:1 defined:1", "here"),
            ("EXISTS defined:1", "here"),
            ("UNLINK cached:1 defined:1", "ERR hearthside: UNLINK is not answered on the owned key 'defined:1'"),
            ("MGET cached:1 other", "ERR hearthside: MGET over owned and pass-through keys"),
        ] {
            let owned = request(line);
            let view = owned.view();
            let Route::Split(keys) = router.route(&view, lookup(view.arg(0), b"")) else { unreachable!("{line}") };
            let told = shown(split(&router, &view, &keys));
            assert!(told.starts_with(expected), "{line}: {told}");
        }
    }

    #[test]
    fn what_needs_a_connection_is_queued_upstream_in_a_form_whose_replies_can_be_told_apart() {
        for (line, expected) in [
            ("SUBSCRIBE a b", "Channel true"),
            ("PUNSUBSCRIBE", "Pattern false"),
            ("SUBSCRIBE", "upstream 1"),
            ("SSUBSCRIBE a", "upstream 1"),
            ("BLPOP a 0", "upstream 1"),
            ("MONITOR", "upstream 1"),
            ("CLIENT NO-EVICT ON", "upstream, a state"),
            ("CLIENT TRACKING ON REDIRECT 7", "ERR hearthside: CLIENT TRACKING with REDIRECT"),
        ] {
            let owned = request(line);
            let view = owned.view();
            let router = Router::new(Keyspace::default(), Vec::new(), &[]);
            let Route::Pinned(pin, spec) = router.route(&view, lookup(view.arg(0), view.arg(1))) else {
                unreachable!("{line}")
            };
            let told = shown(pinned(pin, &view, spec));
            assert!(told.starts_with(expected), "{line}: {told}");
        }
    }

    #[test]
    fn arguments_are_looked_at_before_a_command_is_queued() {
        let spec = |line: &str| lookup(request(line).view().arg(0), b"").expect("a command");
        let queued = |line: &str| shown(here(&request(line).view(), spec(line)));
        assert_eq!(queued("PING"), "here");
        assert_eq!(queued("ECHO"), "ERR wrong number of arguments for 'echo' command");
        let selected = |line: &str| shown(select(&request(line).view(), spec(line)));
        assert_eq!((selected("SELECT 3"), selected("SELECT x")), ("upstream, database 3".into(), "upstream 1".into()));
        assert!(pushes(&request("debug protocol push").view()) && !pushes(&request("DEBUG SLEEP 0").view()));
    }
}
