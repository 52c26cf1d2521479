//! Mappings in the mode `fallback`: a key that the store has is answered as in `on`, and the upstream is asked for one
//! that it has not (decision 0043). Reads are asked there (`reading.rs`). What may change a key, and whatever is of a
//! transaction, waits until the key is settled (`settling.rs`): from then on the store alone has it.

mod reading;
mod removing;
mod settles;
mod settling;
mod splitting;
mod theirs;

pub use settles::Settles;
pub(super) use theirs::{read_value, whole_value};

use super::call::Call;
use super::connection::dedicated;
use super::{Exclusive, Flow, Services, destination};
use crate::command::{OwnedRequest, Request};
use crate::record::Verb;
use crate::route::{Route, Split, Transaction};
use crate::session::Session;
use crate::upstream::To;

impl Services {
    /// The route of a request whose one key is the upstream's after all.
    pub fn route_to_upstream(&self, session: &mut Session, request: &Request<'_>) -> Route {
        let mut route = Route::PassThrough(session.spec.is_some_and(|spec| spec.flags.readonly));
        if session.way.is_dedicated() {
            route = dedicated::route(session, request, route, self.upstream.is_cluster());
        }
        session.to = To::Home;
        if self.upstream.is_cluster() {
            route = destination::within(self, session, request, route);
        }
        route
    }

    /// `route`, or what stands for it while one of its keys may still be the upstream's.
    #[cold]
    pub(super) fn unless_settled(&self, session: &Session, request: &Request<'_>, route: Route) -> Route {
        let falls_back = |route: &Route| {
            let is_meant = match route {
                Route::Definition(..) | Route::Cached(..) | Route::Split(_) => true,
                Route::NotAnswered(key) => key.spec.flags.readonly,
                Route::Transaction(Transaction::Watch, spec) => spec.accepts(request.len()),
                _ => false,
            };
            is_meant && session.spec.is_some_and(|spec| self.router.falls_back_with(request, spec))
        };
        if self.router.modes.falls_back_somewhere() && falls_back(&route) {
            return Route::Fallback(Box::new(route));
        }
        route
    }
}

impl Call<'_> {
    /// A request of which a key may still be the upstream's, outside a transaction.
    #[cold]
    pub(super) fn falls_back(&mut self, route: Route) -> Flow {
        match route {
            Route::Cached(key, Verb::Read(_) | Verb::Inspect(_)) if !key.spec.accepts(self.request.len()) => {
                self.wrong_arity(key.spec)
            }
            Route::Cached(key, verb @ (Verb::Read(answer) | Verb::Inspect(answer))) => {
                self.read_on_both_sides(key, Some(answer), Some(verb))
            }
            Route::NotAnswered(key) => self.read_on_both_sides(key, None, None),
            Route::Definition(key, answer) => self.defined_on_both_sides(key, answer),
            Route::Split(keys) if keys.split != Split::Remove => self.split(&keys),
            route => Flow::Exclusive(Exclusive::Fallback(OwnedRequest::copy(self.request), Box::new(route))),
        }
    }
}
