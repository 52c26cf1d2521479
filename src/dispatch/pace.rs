//! Requests that come too fast: of one client (`limits.requests_per_second`), or of all clients of a user (`rate` of
//! its block).
//!
//! A MULTI that comes too fast is let in, so that nothing behind it runs by itself, and its EXEC is refused. What
//! stands in a MULTI is counted, and never refused.

use super::Services;
use crate::errors;
use crate::route::{Route, Transaction};
use crate::session::Session;

impl Services {
    /// `route`, unless its client asks too fast.
    #[inline]
    pub fn unless_too_fast(&self, session: &mut Session, route: Route) -> Route {
        if self.is_paced(session) { self.unless_over(session, route) } else { route }
    }

    #[inline]
    fn is_paced(&self, session: &Session) -> bool {
        self.policy.limits.requests_per_second > 0 || session.user.as_ref().is_some_and(|user| user.quota.has_rate())
    }

    fn unless_over(&self, session: &mut Session, route: Route) -> Route {
        if matches!(route, Route::Attack) || session.way.state().follows_by().is_some() {
            return route;
        }
        let refused = self.too_fast(session);
        if let Route::Transaction(Transaction::Multi, _) = route {
            session.discarded = refused;
            return route;
        }
        refused.map_or(route, |text| Route::Refused(text.into()))
    }

    /// `route`, unless it is the EXEC of a MULTI that came too fast.
    pub fn unless_discarded(&self, session: &mut Session, route: Route) -> Route {
        let is_exec = matches!(route, Route::Transaction(Transaction::Exec, _));
        let discarded = if is_exec { session.discarded.take() } else { None };
        // A reload may have taken the limit away.
        discarded.filter(|_| self.is_paced(session)).map_or(route, |text| Route::Refused(text.into()))
    }

    /// Counts one request; the error for one that comes too fast.
    pub fn too_fast(&self, session: &mut Session) -> Option<String> {
        let limit = self.policy.limits.requests_per_second;
        if limit > 0 && !session.pace.take(session.now, limit) {
            self.metrics.clients.limited("requests_per_second");
            return Some(errors::limits::too_fast(limit));
        }
        let refused = session.user.as_ref()?.quota.take(session.now).err()?;
        Some(refused.told(&self.metrics.cache.limits))
    }

    /// What is under way already is missing from what may come next.
    pub fn charge(&self, session: &mut Session, requests: u64) {
        if self.policy.limits.requests_per_second > 0 {
            session.pace.spend(requests);
        }
        if let Some(user) = &session.user {
            user.quota.spend(session.now, requests);
        }
    }
}
