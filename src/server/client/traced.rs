//! What of the client's requests is traced that is not answered one by one: batches, and what needs the client alone.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use crate::dispatch::{Exclusive, TracedAlone, operation as operation_of};
use crate::route::Pin;
use crate::telemetry::metrics::RouteLabel;
use crate::telemetry::traces::TraceEnd;

/// What is traced of something that needs the client alone; `last` is the row of its last request.
fn traced(exclusive: &Exclusive, last: &'static str) -> Option<TracedAlone> {
    let (operation, route, may_wait) = match exclusive {
        Exclusive::Pinned(Pin::Aside | Pin::State, spec, _) => (spec.name.as_str(), RouteLabel::Pinned, false),
        Exclusive::Pinned(_, spec, _) => (spec.name.as_str(), RouteLabel::Pinned, true),
        Exclusive::Transaction(..) | Exclusive::Long(_) => (last, RouteLabel::Pinned, false),
        Exclusive::Unknown(unknown, _) if !unknown.is_asked_first() => (last, RouteLabel::Pinned, true),
        Exclusive::Stream => (last, RouteLabel::Passthrough, false),
        Exclusive::Move(_) | Exclusive::Reset => (last, RouteLabel::Local, false),
        _ => return None,
    };
    Some(TracedAlone { operation, route, may_wait })
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
        let trace = &self.session.account.trace;
        // What of an EXEC was sent before it needed the client alone has begun its trace.
        if matches!(exclusive, Exclusive::Transaction(..)) && trace.has_begun() {
            return trace.lend();
        }
        let Some(alone) = traced(exclusive, operation_of(self.session.spec)) else {
            trace.close();
            return None;
        };
        self.services.trace_alone(&self.session, alone);
        trace.lend()
    }
}
