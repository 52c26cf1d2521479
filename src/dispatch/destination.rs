//! Which nodes of a cluster take a request: the owner of the slot that its keys are in, or several, if its keys are in
//! several slots, or if it names none and concerns all.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>

use std::time::Duration;

use super::Services;
use super::spread::cluster_aware::asks_for_nodes;
use crate::command::{Request, Slots, Spec, slot_of};
use crate::errors::upstream as errors;
use crate::route::{Held, Local, Pin, Route, Spread, Transaction};
use crate::session::Session;
use crate::upstream::To;

/// That nodes could not be waited for counts for so long.
const KNOWN: Duration = Duration::from_millis(250);

/// Finds the nodes for a request that goes `route`, which may not go there.
#[inline]
pub(super) fn within(services: &Services, session: &mut Session, request: &Request<'_>, route: Route) -> Route {
    // Almost every request has one key.
    if let Route::PassThrough(_) = &route
        && let Some(to) = of_one_key(session, request)
    {
        session.to = to;
        return route;
    }
    of_any(services, session, request, route)
}

/// The node for a request that passes through, if it has one key, whose place is known without a look at the others.
#[inline]
pub(super) fn of_one_key(session: &Session, request: &Request<'_>) -> Option<To> {
    let at = session.spec?.key_of(request.len())?;
    Some(To::Slot(slot_of(request.arg(at))))
}

fn of_any(services: &Services, session: &mut Session, request: &Request<'_>, route: Route) -> Route {
    let goes_there = matches!(
        route,
        Route::PassThrough(_) | Route::Pinned(..) | Route::Unknown(_) | Route::Unanswered | Route::Transaction(..)
    );
    let (true, Some(spec)) = (goes_there, session.spec) else {
        return unless_unknown(services, session, request, route);
    };
    match route {
        Route::Pinned(Pin::Follow | Pin::Replica, _) => return Route::Refused(errors::NO_REPLICA_OF_ALL.into()),
        Route::Transaction(Transaction::Watch, _) => {
            // The others are watched here.
            let router = &services.router;
            let theirs: Vec<&[u8]> = request.args_from(1).filter(|key| router.owner(key).is_none()).collect();
            return by_keys(session, request, route, &theirs);
        }
        Route::Unanswered => {}
        _ if asks_for_nodes(spec) => return Route::Local(Local::Cluster, spec),
        _ => {}
    }
    let found = match request.slots(spec) {
        Slots::None => everywhere(route, spec),
        Slots::One(slot) => {
            session.to = To::Slot(slot);
            route
        }
        Slots::Several => several(services, request, &route, spec),
    };
    unless_unknown(services, session, request, found)
}

/// `route`, unless it leads to all nodes, and these are not known yet: the home would answer for them. They are waited
/// for once, and not for each request of a pipeline.
fn unless_unknown(services: &Services, session: &mut Session, request: &Request<'_>, route: Route) -> Route {
    let is_info = matches!(route, Route::Local(Local::Info, _)) && !(request.len() == 2 && request.is(1, "hearthside"));
    let is_for_all = matches!(route, Route::Spread(..) | Route::Local(Local::Keys | Local::Scan, _));
    if !(is_info || is_for_all) || session.lane(&services.upstream).knows_nodes() {
        return route;
    }
    match session.awaited_nodes.filter(|at| at.elapsed() < KNOWN) {
        None => Route::Held(Held::Nodes),
        Some(_) if is_for_all => Route::Refused(errors::NODES_UNKNOWN.into()),
        // The sidecar still has something to say of itself.
        Some(_) => route,
    }
}

/// The same for a request that names these keys of the upstream's, all of which one node must have.
pub(super) fn by_keys(session: &mut Session, request: &Request<'_>, route: Route, keys: &[&[u8]]) -> Route {
    match Slots::of(keys) {
        Slots::None => route,
        Slots::One(slot) => {
            session.to = To::Slot(slot);
            route
        }
        Slots::Several => Route::Refused(errors::several_slots(&request.name()).into()),
    }
}

/// The route of a request that names no keys.
fn everywhere(route: Route, spec: &'static Spec) -> Route {
    if !matches!(route, Route::PassThrough(_)) {
        return route;
    }
    match &*spec.name {
        // The keys are everywhere, whether or not some are owned.
        "keys" => Route::Local(Local::Keys, spec),
        "scan" => Route::Local(Local::Scan, spec),
        _ => Spread::by_nodes(spec).map_or(route, |spread| Route::Spread(spread, spec)),
    }
}

/// The route of a request whose keys are in several slots.
fn several(services: &Services, request: &Request<'_>, route: &Route, spec: &'static Spec) -> Route {
    let is_plain = matches!(route, Route::PassThrough(_));
    match Spread::by_slots(request, spec).filter(|_| is_plain) {
        Some(spread) if spread.is_atomic() && !services.upstream.endpoint().settings.cluster_split => {
            Route::Refused(errors::not_at_once(&request.name()).into())
        }
        Some(spread) => Route::Spread(spread, spec),
        None => Route::Refused(errors::several_slots(&request.name()).into()),
    }
}
