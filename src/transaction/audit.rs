//! What of a transaction goes into the audit log, beside what is answered as outside of one.

use super::Desk;
use super::queued::{Queue, Queued};
use super::store::StoreAnswer;
use crate::command::Request;
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

    /// What the store is about to be told of a transaction, command by command: a note that is dropped says that nobody
    /// knows what became of it.
    pub(super) fn notes(&self, queue: &Queue, answers: &[StoreAnswer]) -> Vec<Option<AuditNote>> {
        let note = |(queued, ours): (&Queued, &StoreAnswer)| match (queued, ours) {
            (_, StoreAnswer::Usual) => None,
            (Queued::Here(request, route), _) => self.note_of(&request.view(), route),
            _ => None,
        };
        queue.list().iter().zip(answers).map(note).collect()
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
