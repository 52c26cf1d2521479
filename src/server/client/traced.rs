//! What of the client's requests is traced that is not answered one by one: batches, and what needs the client alone.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::dispatch::{Exclusive, operation as operation_of};
use crate::route::Pin;
use crate::telemetry::traces::TraceEnd;

/// What is traced of something that needs the client alone: its row of the command table, where it is not the last
/// request's, and whether it may wait because it was told to.
fn traced(exclusive: &Exclusive) -> Option<(Option<&'static str>, bool)> {
    match exclusive {
        Exclusive::Pinned(Pin::Aside | Pin::State, spec, _) => Some((Some(&spec.name), false)),
        Exclusive::Pinned(_, spec, _) => Some((Some(&spec.name), true)),
        Exclusive::Transaction(..) | Exclusive::Long(_) => Some((None, false)),
        Exclusive::Unknown(unknown, _) if !unknown.is_asked_first() => Some((None, true)),
        _ => None,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The batch that is sent now begins to be traced.
    #[cold]
    pub(super) fn trace_batch(&mut self, size: usize) {
        let sampled = std::mem::take(&mut self.batch.sampled);
        let kind = self.services.timed.passed_kind();
        self.services.trace_passed(&self.session, kind, size, sampled);
    }

    /// Something that needs the client alone begins to be traced; it ends with what this returns.
    #[cold]
    pub(super) fn trace_exclusive(&self, exclusive: &Exclusive) -> Option<TraceEnd> {
        let Some((operation, may_wait)) = traced(exclusive) else {
            self.session.account.trace.close();
            return None;
        };
        let last = || operation_of(self.session.spec);
        self.services.trace_alone(&self.session, operation.unwrap_or_else(last), may_wait);
        self.session.account.trace.lend()
    }

    /// An EXEC that is sent now, and whose reply nobody awaits before other requests, begins to be traced.
    pub(super) fn trace_exec(&self) {
        if self.services.policy.traces && self.session.account.trace.is_free() {
            self.services.trace_alone(&self.session, "exec", false);
        }
    }
}
