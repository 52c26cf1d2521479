//! What of a client's requests is traced: a sample, and, because that is known only when they have ended, each that is
//! not answered at once. On the road there is one look at whether requests are followed at all, by the audit log or by
//! traces.

use bytes::BytesMut;

use super::{Flow, PassedKind, Services};
use crate::clients::Peer;
use crate::command::{Request, Spec};
use crate::keys::MappingId;
use crate::route::{Holder, Route};
use crate::session::Session;
use crate::telemetry::metrics::{Outcome, RouteLabel, Tally};
use crate::telemetry::traces::{Opening, Root, TracedClient};

/// How a command that needs no load may end.
const ENDS: [(Outcome, &str); 4] =
    [(Outcome::Hit, "hit"), (Outcome::Absent, "absent"), (Outcome::Miss, "miss"), (Outcome::Error, "error")];

impl TracedClient for Peer {
    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> String {
        Self::name(self)
    }

    fn address(&self) -> &str {
        &self.addresses.0
    }
}

/// What a trace calls a command.
#[must_use]
pub fn operation(spec: Option<&'static Spec>) -> &'static str {
    spec.map_or("unknown", |spec| spec.name.as_str())
}

/// A command that needs the client alone.
#[derive(Clone, Copy, Debug)]
pub struct TracedAlone {
    /// What a trace calls it.
    pub operation: &'static str,
    /// Which way it goes.
    pub route: RouteLabel,
    /// It may wait because it was told to.
    pub may_wait: bool,
}

/// The first mapping that a request concerns.
fn mapping(route: &Route) -> Option<MappingId> {
    match route {
        Route::Split(keys) => keys.keys.iter().find_map(|key| match key.holder {
            Holder::Cache(mapping) | Holder::Definitions(mapping) => Some(mapping),
            Holder::Upstream => None,
        }),
        other => other.owned_key().map(|key| key.mapping),
    }
}

impl Services {
    /// The same as `answer_tracked`, of requests that are followed.
    #[cold]
    pub(super) fn answer_followed(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        route: Route,
        out: &mut BytesMut,
    ) -> Flow {
        if self.policy.traces {
            return self.answer_traced(session, request, route, out);
        }
        self.answer_audited(session, request, route, out)
    }

    fn answer_traced(&self, session: &mut Session, request: &Request<'_>, route: Route, out: &mut BytesMut) -> Flow {
        if session.account.trace.is_lent() {
            // It is part of a transaction, whose EXEC is traced.
            return self.answer_recorded(session, request, route, out);
        }
        let (label, mapping, begin) = (route.label(), mapping(&route), out.len());
        let is_sampled = self.sampler.takes();
        let before = is_sampled.then(|| session.tally.clone());
        let root = Root::of_one(operation(session.spec), label, session.group.db);
        session.account.trace.open(&self.metrics.traces, Opening { root, begun: session.begun, is_sampled });
        let flow = self.answer_recorded(session, request, route, out);
        if is_sampled || matches!(flow, Flow::Later(_) | Flow::Upstream(_) | Flow::Filling(..)) {
            self.describe(session, mapping, outcome(session, before.as_ref(), label, &flow));
        }
        if matches!(flow, Flow::Answered) {
            session.account.trace.settle_with(&out[begin.min(out.len())..]);
        }
        flow
    }

    /// Says more of the command that is traced now.
    fn describe(&self, session: &Session, mapping: Option<MappingId>, outcome: Option<&'static str>) {
        let Some(trace) = session.account.trace.get() else { return };
        let pattern = mapping.map(|mapping| self.owned.mappings.list[mapping.index()].pattern.text().to_owned());
        trace.concerns(pattern, session.peer.clone());
        outcome.into_iter().for_each(|outcome| trace.will_be(outcome));
    }

    /// Commands that are passed on together begin to be traced, with those of them that are sampled.
    #[cold]
    pub fn trace_passed(&self, session: &Session, kind: PassedKind, size: usize, mut sampled: Vec<&'static str>) {
        let one = sampled.first().copied().filter(|_| size == 1);
        let operation = one.unwrap_or_else(|| operation(kind.spec));
        let root = Root::of_one(operation, RouteLabel::Passthrough, session.group.db);
        let root = Root { size: size as u32, is_mixed: kind.is_mixed, ..root };
        let opening = Opening { root, begun: session.begun, is_sampled: one.is_some() };
        session.account.trace.open(&self.metrics.traces, opening);
        let Some(trace) = session.account.trace.get() else { return };
        trace.concerns(None, session.peer.clone());
        if one.is_none() && !sampled.is_empty() {
            trace.samples(std::mem::take(&mut sampled));
        }
    }

    /// True when the command that is passed on now is traced in any case.
    pub fn samples_passed(&self) -> bool {
        self.policy.traces && self.sampler.takes()
    }

    /// A command that needs the client alone begins to be traced, and is sampled if that has been said of it already.
    #[cold]
    pub fn trace_alone(&self, session: &Session, alone: TracedAlone) {
        let TracedAlone { operation, route, may_wait } = alone;
        let is_sampled = session.account.trace.is_sampled().unwrap_or_else(|| self.sampler.takes());
        let root = Root { may_wait, ..Root::of_one(operation, route, session.group.db) };
        session.account.trace.open(&self.metrics.traces, Opening { root, begun: session.begun, is_sampled });
        self.describe(session, None, None);
    }

    /// An EXEC begins to be traced, unless it is already.
    pub fn trace_exec(&self, session: &Session) {
        if self.policy.traces && session.account.trace.is_free() {
            let exec = TracedAlone { operation: "exec", route: RouteLabel::Pinned, may_wait: false };
            self.trace_alone(session, exec);
        }
    }

    /// Commands that were answered at once were slow together: their thread was held up.
    #[cold]
    pub(super) fn trace_late(&self, session: &Session, count: u32) {
        if self.metrics.traces.is_slow_since(session.begun) {
            let root = Root::of_one(operation(session.spec), RouteLabel::Local, session.group.db);
            let root = Root { size: count, is_mixed: count > 1, route: None, ..root };
            session.account.trace.open(&self.metrics.traces, Opening { root, begun: session.begun, is_sampled: false });
            self.describe(session, None, None);
            session.account.trace.settle();
        }
    }
}

/// How it ends, where that is known already.
fn outcome(session: &Session, before: Option<&Tally>, route: RouteLabel, flow: &Flow) -> Option<&'static str> {
    let counted = before.and_then(|before| {
        ENDS.into_iter().find(|(outcome, _)| session.tally.has_more(before, route, *outcome)).map(|(_, name)| name)
    });
    counted.or_else(|| (route == RouteLabel::Cache && matches!(flow, Flow::Later(_))).then_some("miss"))
}
