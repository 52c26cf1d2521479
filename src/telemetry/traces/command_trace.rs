//! One command while it is under way, or commands of a client that travel together. Whoever works for it adds what that
//! took. When it has ended and nobody works for it any more it becomes spans, if it was sampled, was slow, or is named
//! by one that becomes spans.
//!
//! Invariant: a command that has ended holds no other one, so that two that wait for each other's loads do not keep
//! each other in memory.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, TraceId};
use opentelemetry_sdk::trace::{SpanData, SpanLinks};

use super::part::{Part, Place, WallClock, context, new_span, new_trace};
use super::{Traces, attributes, names};
use crate::telemetry::clock::Moment;
use crate::telemetry::metrics::RouteLabel;

/// More parts of one command are not kept.
const MOST_PARTS: usize = 128;

/// A client, as spans name it.
pub trait TracedClient: fmt::Debug + Send + Sync {
    /// Its id (CLIENT ID).
    fn id(&self) -> u64;
    /// Its name (CLIENT SETNAME).
    fn name(&self) -> String;
    /// Its address, with the port.
    fn address(&self) -> &str;
}

/// What is known of it when it begins.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its row of the command table.
    pub operation: &'static str,
    /// How many commands it is.
    pub size: u32,
    /// They are not all the same.
    pub is_mixed: bool,
    /// Which way it goes; none for what no client has asked for.
    pub route: Option<RouteLabel>,
    /// The client's database.
    pub database: i64,
    /// It may wait because it was told to: that is not slow.
    pub may_wait: bool,
}

/// One command.
#[derive(Debug)]
pub struct CommandTrace {
    traces: Arc<Traces>,
    pub(super) id: TraceId,
    pub(super) span: SpanId,
    root: Root,
    begun: Moment,
    is_sampled: bool,
    /// One that becomes spans names it.
    is_named: AtomicBool,
    body: Mutex<Body>,
}

#[derive(Debug, Default)]
struct Body {
    ended: Option<Moment>,
    outcome: Option<&'static str>,
    error: Option<String>,
    mapping: Option<String>,
    client: Option<Arc<dyn TracedClient>>,
    parts: Vec<Part>,
    /// Of those that travel together, the sampled ones.
    sampled: Vec<&'static str>,
    /// Loads of others that it waits for, until it has ended; and then.
    follows: Vec<(Arc<CommandTrace>, SpanId)>,
    links: Vec<SpanContext>,
    /// It is no command: its only span.
    alone: Option<Part>,
}

impl CommandTrace {
    /// One that began then.
    pub(super) fn begin(traces: &Arc<Traces>, root: Root, begun: Moment, is_sampled: bool) -> Arc<Self> {
        Arc::new(Self {
            traces: traces.clone(),
            id: new_trace(),
            span: new_span(),
            root,
            begun,
            is_sampled,
            is_named: AtomicBool::new(false),
            body: Mutex::default(),
        })
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It concerns this mapping, and was asked by this client.
    pub fn concerns(&self, mapping: Option<String>, client: Arc<dyn TracedClient>) {
        let mut body = self.body();
        (body.mapping, body.client) = (mapping, Some(client));
    }

    /// Its reply begins like this.
    pub(super) fn saw(&self, reply: &[u8]) {
        if self.root.size == 1
            && let Some(code) = attributes::error_code(reply)
        {
            self.body().error.get_or_insert(code);
        }
    }

    /// Its outcome, where that is known before its reply is there.
    pub fn will_be(&self, outcome: &'static str) {
        self.body().outcome = Some(outcome);
    }

    /// Of the commands that travel together these are sampled.
    pub fn samples(&self, operations: Vec<&'static str>) {
        self.body().sampled = operations;
    }

    /// True where it becomes spans whatever it takes.
    pub(super) fn is_certain(&self) -> bool {
        self.is_sampled || self.is_named.load(SeqCst)
    }

    /// A part of it has ended.
    pub(super) fn add(&self, part: Part) {
        let mut body = self.body();
        if body.parts.len() < MOST_PARTS {
            body.parts.push(part);
        }
    }

    /// What it is has ended, of something that no client has asked for.
    pub(super) fn was(&self, part: Part) {
        let mut body = self.body();
        (body.ended, body.alone) = (Some(part.ended), Some(part));
    }

    pub(super) const fn root(&self) -> &Root {
        &self.root
    }

    /// It waits for a part of another one.
    pub(super) fn follows(&self, other: &Arc<Self>, span: SpanId) {
        if other.id == self.id {
            return;
        }
        if self.is_certain() {
            other.is_named.store(true, SeqCst);
        }
        let mut body = self.body();
        if body.follows.len() < MOST_PARTS {
            body.follows.push((other.clone(), span));
        }
    }

    /// What a span of something else links to, if it is certain that it will be there.
    pub(super) fn links_to(&self, spans: impl IntoIterator<Item = (TraceId, SpanId)>) {
        self.body().links.extend(spans.into_iter().map(|(trace, span)| context(trace, span)));
    }

    fn is_slow(&self, ended: Moment) -> bool {
        !self.root.may_wait && self.traces.is_slow(ended.since(self.begun))
    }

    /// It has ended: those whose loads it waited for become spans where it does.
    fn end(&self, outcome: Option<&'static str>) {
        let now = Moment::now();
        let becomes_spans = self.is_certain() || self.is_slow(now);
        let mut body = self.body();
        body.ended = Some(now);
        body.outcome = outcome.or(body.outcome);
        for (other, span) in std::mem::take(&mut body.follows) {
            if becomes_spans {
                other.is_named.store(true, SeqCst);
            }
            body.links.push(context(other.id, span));
        }
    }
}

/// The duty to say when it has ended. Dropped before, its client has left.
#[derive(Debug)]
pub struct TraceEnd {
    trace: Arc<CommandTrace>,
    has_ended: bool,
}

impl TraceEnd {
    pub(super) const fn of(trace: Arc<CommandTrace>) -> Self {
        Self { trace, has_ended: false }
    }

    /// What it is the end of.
    #[must_use]
    pub const fn trace(&self) -> &Arc<CommandTrace> {
        &self.trace
    }

    /// The reply begins like this: of one command it tells whether that is an error.
    pub fn saw(&mut self, reply: &[u8]) {
        self.trace.saw(reply);
    }

    /// It has been answered.
    pub fn answered(mut self) {
        self.has_ended = true;
        self.trace.end(None);
    }
}

impl Drop for TraceEnd {
    fn drop(&mut self) {
        if !self.has_ended {
            self.trace.end(Some("unanswered"));
        }
    }
}

/// Nobody works for it any more.
impl Drop for CommandTrace {
    fn drop(&mut self) {
        let mut body = std::mem::take(&mut *self.body());
        let Some(ended) = body.ended else { return };
        let is_slow = self.is_slow(ended);
        let sampled = std::mem::take(&mut body.sampled);
        if let Some(part) = body.alone.take() {
            if self.is_certain() || is_slow {
                let links = links(&body.links);
                let place = Place { trace: self.id, parent: SpanId::INVALID, clock: WallClock::read() };
                let below = Place { parent: self.span, ..place };
                let mut spans: Vec<SpanData> = vec![part.span(place, links)];
                spans.extend(body.parts.into_iter().map(|part| part.span(below, SpanLinks::default())));
                self.traces.export(spans);
            }
            return;
        }
        for operation in sampled {
            let root = Root { operation, size: 1, is_mixed: false, ..self.root.clone() };
            self.export_as(&root, &body, Named { trace: new_trace(), span: new_span(), reason: "sampled" });
        }
        if self.is_certain() || is_slow {
            let reason = match () {
                () if self.is_sampled => "sampled",
                () if is_slow => "slow",
                () => "linked",
            };
            self.export_as(&self.root, &body, Named { trace: self.id, span: self.span, reason });
        }
    }
}

/// What a command's span is called, and why there is one.
struct Named {
    trace: TraceId,
    span: SpanId,
    reason: &'static str,
}

impl CommandTrace {
    fn export_as(&self, root: &Root, body: &Body, named: Named) {
        let Named { trace, span, reason } = named;
        let place = Place { trace, parent: SpanId::INVALID, clock: WallClock::read() };
        let name = root.name();
        let mut part = Part::new(SpanKind::Server, titled(&name, body.mapping.as_deref()), self.begun);
        part.ended = body.ended.unwrap_or(part.ended);
        (part.id, part.error) = (span, body.error.clone());
        part.attributes = root.attributes(name, reason);
        part.attributes.extend(body.attributes());
        let mut spans = vec![part.span(place, links(&body.links))];
        let is_own = trace == self.id;
        for part in &body.parts {
            // What is given to a collector twice has two names.
            let id = if is_own { part.id } else { new_span() };
            spans.push(Part { id, ..part.clone() }.span(Place { parent: span, ..place }, SpanLinks::default()));
        }
        self.traces.export(spans);
    }
}

fn links(contexts: &[SpanContext]) -> SpanLinks {
    let mut links = SpanLinks::default();
    links.links = contexts.iter().map(|context| Link::new(context.clone(), Vec::new(), 0)).collect();
    links
}

/// A span's name: what is done, and of which mapping.
pub(super) fn titled(name: &str, mapping: Option<&str>) -> Cow<'static, str> {
    mapping.map_or_else(|| name.to_owned(), |mapping| format!("{name} {mapping}")).into()
}

impl Root {
    /// One command.
    #[must_use]
    pub const fn of_one(operation: &'static str, route: RouteLabel, database: i64) -> Self {
        Self { operation, size: 1, is_mixed: false, route: Some(route), database, may_wait: false }
    }

    /// What the sidecar does by itself.
    pub(super) const fn of_itself(operation: &'static str) -> Self {
        Self { operation, size: 1, is_mixed: false, route: None, database: 0, may_wait: false }
    }

    /// What it does.
    pub(super) fn name(&self) -> String {
        match (self.size, self.is_mixed) {
            (1, _) => attributes::operation(self.operation),
            (_, true) => names::PIPELINE.into(),
            (_, false) => format!("{} {}", names::PIPELINE, attributes::operation(self.operation)),
        }
    }

    fn attributes(&self, name: String, reason: &'static str) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new(attributes::SYSTEM, "redis"),
            KeyValue::new(attributes::OPERATION, name),
            KeyValue::new(attributes::NAMESPACE, self.database.to_string()),
            KeyValue::new(attributes::REASON, reason),
        ];
        attributes.extend(self.route.map(|route| KeyValue::new(attributes::ROUTE, route.name())));
        if self.size > 1 {
            attributes.push(KeyValue::new(attributes::BATCH_SIZE, i64::from(self.size)));
        }
        attributes
    }
}

impl Body {
    fn attributes(&self) -> Vec<KeyValue> {
        let outcome = match &self.error {
            Some(_) => "error",
            None => self.outcome.unwrap_or("ok"),
        };
        let mut attributes = vec![KeyValue::new(attributes::OUTCOME, outcome)];
        attributes.extend(self.error.clone().map(|code| KeyValue::new(attributes::RESPONSE_STATUS, code)));
        attributes.extend(self.mapping.as_deref().map(|mapping| attributes::text(attributes::MAPPING, mapping)));
        if let Some(client) = &self.client {
            let (id, name) = (client.id().cast_signed(), client.name());
            attributes.push(KeyValue::new(attributes::CLIENT_ID, id));
            if !name.is_empty() {
                attributes.push(attributes::text(attributes::CLIENT_NAME, &name));
            }
            attributes
                .extend(attributes::place([attributes::CLIENT_ADDRESS, attributes::CLIENT_PORT], client.address()));
        }
        attributes
    }
}
