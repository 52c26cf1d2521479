//! CLIENT TRACKING behind a cluster. Each node tells of its own keys alone, to the connection that has read them there:
//! over the client's one connection the invalidations of all other nodes would be missing, in silence.

use crate::command::Request;
use crate::errors;
use crate::route::{Pin, Route};

/// `route`, unless it would begin what cannot be kept up.
pub(super) fn unless_begun(request: &Request<'_>, route: Route) -> Route {
    match route {
        Route::Pinned(Pin::State, _) if request.is(1, "TRACKING") && request.is(2, "ON") => {
            Route::Refused(errors::upstream::NO_TRACKING.into())
        }
        route => route,
    }
}
