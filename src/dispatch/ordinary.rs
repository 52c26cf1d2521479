//! Where a request of an ordinary client goes: most clients are such that nothing has to be asked but the command table
//! and the keyspace (decision 0042).

use super::{Services, destination};
use crate::command::Request;
use crate::config::AuthMode;
use crate::route::Route;
use crate::session::Session;
use crate::upstream::To;

impl Services {
    /// True while nothing about a client, and no setting, asks for more. Looked at once for many requests: whoever
    /// takes one that may change it looks again.
    pub fn is_ordinary(&self, session: &Session) -> bool {
        let is_open = self.access.mode == AuthMode::None && session.user.is_none();
        let is_quiet = !self.policy.is_followed && !session.is_shown && self.policy.limits.requests_per_second == 0;
        let goes_by_lanes = session.subscriber().is_none() && !session.way.is_dedicated() && !session.way.is_caching();
        let is_settled = !self.owned.is_incomplete() && !self.router.modes.looks_twice();
        is_open && is_quiet && goes_by_lanes && is_settled && !self.upstream.reads_from_replicas()
    }

    /// A request that passes through, unless it may be answered from memory.
    #[inline]
    fn passing(&self, session: &mut Session, request: &Request<'_>, route: Route) -> Route {
        self.detach(session, request);
        self.unless_near(session, request, route)
    }

    /// Where a request of an ordinary client goes, if it is as simple as that: to the upstream, or one owned key.
    #[inline]
    pub fn route_ordinary(&self, session: &mut Session, request: &Request<'_>) -> Option<Route> {
        let spec = self.spec_of(session, request)?;
        (session.spec, session.command, session.to) = (Some(spec), Some(spec.id), To::Home);
        if self.router.denied.denies(request, Some(spec)) {
            return None;
        }
        let route = self.router.route(request, Some(spec));
        match route {
            Route::PassThrough(_) if self.upstream.is_cluster() => {
                session.to = destination::of_one_key(session, request)?;
                Some(self.passing(session, request, route))
            }
            Route::PassThrough(_) => Some(self.passing(session, request, route)),
            Route::Cached(..) | Route::Definition(..) => Some(route),
            _ => None,
        }
    }
}
