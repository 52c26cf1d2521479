//! What of a transaction goes into the audit log, beside what is answered as outside of one.

use super::Desk;
use super::queued::{Queue, Queued};
use crate::command::{OwnedRequest, Request};
use crate::route::Route;
use crate::telemetry::audit::AuditNote;

impl Desk<'_> {
    fn note_of(&self, request: &Request<'_>, route: &Route) -> Option<AuditNote> {
        self.services.policy.audits.then(|| self.services.note_of(self.session, request, route)).flatten()
    }

    /// A command that is not queued.
    pub(super) fn audit_refused(&self, request: &Request<'_>, route: &Route, why: &str) {
        self.note_of(request, route).into_iter().for_each(|note| note.failed(why));
    }

    /// A command whose answer stands in the replies from `begin` on.
    pub(super) fn audit_answered(&self, request: &OwnedRequest, route: &Route, begin: usize) {
        self.note_of(&request.view(), route).into_iter().for_each(|note| note.answered(&self.out[begin..]));
    }

    /// What is queued here and is not run.
    pub(super) fn audit_unrun(&self, queue: &Queue, why: &str) {
        for queued in queue.list() {
            if let Queued::Here(request, route) = queued {
                self.audit_refused(&request.view(), route, why);
            }
        }
    }
}
