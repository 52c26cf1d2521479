//! Which node of a cluster takes a request: the owner of the slot that its keys are in.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>

use crate::command::{Request, Slots};
use crate::errors;
use crate::route::Route;
use crate::session::Session;
use crate::upstream::To;

/// Finds the node for a request that goes `route`, which may not go there.
pub(super) fn within(session: &mut Session, request: &Request<'_>, route: Route) -> Route {
    let goes_there = matches!(
        route,
        Route::PassThrough(_) | Route::Pinned(..) | Route::Unknown(_) | Route::Unanswered | Route::Transaction(..)
    );
    let (true, Some(spec)) = (goes_there, session.spec) else { return route };
    match request.slots(spec) {
        Slots::None => route,
        Slots::One(slot) => {
            session.to = To::Slot(slot);
            route
        }
        Slots::Several => Route::Refused(errors::upstream::several_slots(&request.name()).into()),
    }
}
