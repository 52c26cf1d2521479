//! Requests that are refused whatever state a connection is in: decided in one place, before that state is looked at.

use super::Services;
use super::connection::hello;
use crate::access;
use crate::command::{Request, Spec};
use crate::config::AuthMode;
use crate::route::{Refusal, Route, is_attack};
use crate::session::Session;
use crate::telemetry::refusals::By;

impl Services {
    /// Counts a request that is answered so, if somebody does not permit it.
    pub fn note_refused(&self, session: &Session, request: &Request<'_>, refusal: &Refusal) {
        if let Some(by) = refusal.by {
            self.metrics.clients.refusals.denied(by, &request.name(), || session.who());
        }
    }

    /// The end of a request that may not be sent. The first of these that holds says it:
    ///
    /// 1. it is HTTP, which somebody's browser was made to send: the client is closed, whoever it is;
    /// 2. the client has not logged in: it gets that error (`auth.mode = "users"`), or the upstream is asked first
    ///    (`"upstream"`);
    /// 3. `security.deny` names the command, for everybody;
    /// 4. the user's rules do not allow the command, one of its keys, or one of its channels.
    ///
    /// Nothing that the connection is in takes such an answer back: it is neither queued in a MULTI nor passed on for
    /// a subscriber, a monitor or a debugging session. What a route itself refuses comes after it (what is
    /// not answered on owned keys), and holds in every state too (`connection/dedicated.rs`).
    pub(super) fn refusal(
        &self,
        session: &Session,
        request: &Request<'_>,
        spec: Option<&'static Spec>,
    ) -> Option<Route> {
        if spec.is_none() && is_attack(request) {
            return Some(Route::Attack);
        }
        let user = session.user.as_deref();
        if self.access.mode != AuthMode::None {
            if let Some(text) = self.access.unauthenticated(user, spec) {
                return Some(Route::Refused(text.into()));
            }
            if self.access.mode == AuthMode::Upstream && !session.is_proven && !hello::logs_in(request) {
                return Some(Route::Unproven);
            }
        }
        if self.router.denied.denies(request, spec) {
            return Some(Route::Refused(self.router.denied.refusal(request, spec)));
        }
        let text = access::refusal(user?, request, spec)?;
        Some(Route::Refused(Refusal::by(By::Rules, text)))
    }
}
