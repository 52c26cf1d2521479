//! What is noted of requests that pass through: a sample of their keys' forms, lines of the audit log, traces.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::streaming::LONG;
use crate::dispatch::operation;
use crate::route::Route;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Counts a request among those that pass through, if it is one of the sample.
    #[inline(always)]
    pub(super) fn sample_passed(&mut self, length: usize) {
        if self.session.passed.is_due(self.session.tally.total) {
            self.count_passed(length);
        }
    }

    /// Notes a request that goes to the upstream as it is, and decides whether it is traced.
    #[cold]
    pub(super) fn follow_passed(&mut self, length: usize, route: &Route) {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        self.services.note_passed(&self.session, &request, route);
        if length < LONG && self.services.samples_passed() {
            self.batch.sampled.push(operation(self.session.spec));
        }
    }

    /// Counts the form of the key that a request names, if it names one.
    #[cold]
    fn count_passed(&mut self, length: usize) {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        let Some(spec) = self.session.spec else { return };
        let Some(at) = spec.key_of(request.len()) else { return };
        let (number, top) = (self.session.tally.total, &self.services.metrics.cache.top);
        self.session.passed.count(number, &spec.name, request.arg(at), top);
    }
}
