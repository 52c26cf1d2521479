//! Where a command inside MULTI belongs.

use crate::command::{Request, Spec};
use crate::dispatch::Context;
use crate::record::answer_of;
use crate::resp::number::parse_i64;
use crate::route::{Local, Pin, Route};

pub(super) enum Place {
    /// Runs there.
    Upstream,
    /// Runs there, and changes the client's database.
    Select(i64),
    /// Runs here, at EXEC.
    Here,
    /// Cannot be queued.
    Refused(String),
}

pub(super) fn place(context: &Context, request: &Request<'_>, route: &Route) -> Place {
    match route {
        Route::PassThrough(_) | Route::Pinned(Pin::Blocking) | Route::Transaction(..) => Place::Upstream,
        Route::Local(Local::Select, spec) => select(request, spec),
        Route::Local(local, spec) if *local != Local::Hello => here(request, spec),
        Route::Local(..) | Route::Hearthside | Route::Pinned(Pin::Subscribe | Pin::Unsubscribe | Pin::Monitor) => {
            let name = request.name().to_ascii_uppercase();
            Place::Refused(format!("ERR hearthside: {name} is not supported inside MULTI"))
        }
        Route::Refused(text) => Place::Refused(text.clone()),
        Route::Owned(mapping, at, spec) => {
            if answer_of(spec).is_none() {
                Place::Refused(context.router.unanswered(request, *at, *mapping))
            } else {
                here(request, spec)
            }
        }
        Route::Split(keys, spec) => split(context, request, keys, spec.name.as_str()),
    }
}

/// Inside MULTI a command over both kinds of keys would have to run half here and half there.
fn split(context: &Context, request: &Request<'_>, keys: &[usize], name: &str) -> Place {
    for at in keys {
        match context.router.owner(request.arg(*at)) {
            None => {
                let name = name.to_ascii_uppercase();
                return Place::Refused(format!(
                    "ERR hearthside: {name} over owned and pass-through keys is not supported inside MULTI; send one command for each kind"
                ));
            }
            Some(mapping) if matches!(name, "del" | "unlink") && context.owned.is_definition(mapping) => {
                return Place::Refused(context.router.unanswered(request, *at, mapping));
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
        Some(db) if spec.accepts(request.len()) => Place::Select(db),
        _ => Place::Upstream,
    }
}
