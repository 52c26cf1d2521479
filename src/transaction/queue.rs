//! Where a command inside MULTI belongs.

use bytes::BytesMut;

use super::queued::Queued;
use crate::command::{OwnedRequest, Request, Spec};
use crate::config::AuthMode;
use crate::dispatch::{Services, greeted, write_refusal};
use crate::record::{answer_of, is_lifetime, written_shape};
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::resp::pubsub::Kind;
use crate::route::{Local, Pin, Route};
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
        Route::PassThrough(_) if pushes(request) => Place::Refused(
            "ERR hearthside: DEBUG PROTOCOL PUSH is not supported inside MULTI: its push would stand between the elements of EXEC's reply".into(),
        ),
        Route::Attack | Route::Unproven => Place::Refused("ERR hearthside: not a command".into()),
        Route::PassThrough(_) | Route::Unanswered | Route::Transaction(..) => Place::Upstream(Queued::Upstream(1)),
        Route::Unknown(unknown) => Place::Upstream(Queued::Unknown(*unknown)),
        Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), spec) if services.hub.is_some() => {
            Place::Refused(format!(
                "ERR hearthside: {} is not supported inside MULTI with pubsub.mode = \"shared\"",
                spec.name.to_ascii_uppercase()
            ))
        }
        Route::Pinned(pin, spec) => pinned(*pin, request, spec),
        Route::Local(Local::Select, spec) => select(request, spec),
        Route::Local(Local::Hello, spec) => hello(services, session, request, spec),
        Route::Local(Local::Auth, _) if services.access.mode == AuthMode::Upstream => {
            Place::Refused("ERR hearthside: AUTH is not supported inside MULTI with auth.mode = \"upstream\"".into())
        }
        Route::Local(_, spec) => here(request, spec),
        Route::Hearthside => Place::Here,
        Route::Refused(refusal) => Place::Refused(refusal.text.clone()),
        Route::Owned(mapping, ..) if services.owned.is_loading(*mapping) => {
            Place::Refused(services.owned.loading_error(*mapping))
        }
        Route::Owned(mapping, at, spec) => {
            let target = &services.owned.mappings.list[*mapping];
            let is_cached = !services.owned.is_definition(*mapping);
            if answer_of(spec).is_some() || is_lifetime(spec) && is_cached {
                here(request, spec)
            } else if !is_cached || written_shape(spec).is_none() {
                Place::Refused(services.router.unanswered(request, *at, *mapping))
            } else {
                match write_refusal(target, request, *at, spec) {
                    Some(text) => Place::Refused(text),
                    None => here(request, spec),
                }
            }
        }
        Route::Split(keys, spec) => split(services, request, keys, spec.name.as_str()),
    }
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
            Place::Refused("ERR hearthside: CLIENT TRACKING with REDIRECT is not supported inside MULTI".into())
        }
        Pin::State => Place::Upstream(Queued::State(OwnedRequest::copy(request))),
        Pin::Blocking | Pin::Wait | Pin::Debug | Pin::Monitor | Pin::Aside => Place::Upstream(Queued::Upstream(1)),
    }
}

/// The upstream's connection changes its protocol where the client's does; credentials are ours to judge.
fn hello(services: &Services, session: &mut Session, request: &Request<'_>, spec: &Spec) -> Place {
    if !spec.accepts(request.len()) {
        return Place::Refused(spec.arity_error());
    }
    if services.access.mode != AuthMode::None && (2..request.len()).any(|i| request.is(i, "AUTH")) {
        return Place::Refused("ERR hearthside: HELLO with AUTH is not supported inside MULTI".into());
    }
    if greeted(services, session, request).is_err() {
        return Place::Here;
    }
    let mut bytes = BytesMut::new();
    encode::request(&mut bytes, &(0..request.len().min(2)).map(|i| request.arg(i)).collect::<Vec<_>>());
    Place::Rewritten(vec![bytes], Queued::Hello(OwnedRequest::copy(request)))
}

/// Inside MULTI a command over both kinds of keys would have to run half here and half there.
fn split(services: &Services, request: &Request<'_>, keys: &[usize], name: &str) -> Place {
    for at in keys {
        match services.router.owner(request.arg(*at)) {
            None => {
                let name = name.to_ascii_uppercase();
                return Place::Refused(format!(
                    "ERR hearthside: {name} over owned and pass-through keys is not supported inside MULTI; send one command for each kind"
                ));
            }
            Some(mapping) if matches!(name, "del" | "unlink") && services.owned.is_definition(mapping) => {
                return Place::Refused(services.router.unanswered(request, *at, mapping));
            }
            Some(_) => {}
        }
    }
    Place::Here
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
