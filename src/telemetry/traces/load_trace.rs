//! The load of one key: a part of the command that began it, which others that wait for it name.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind};

use super::command_trace::{CommandTrace, Root, titled};
use super::part::{Part, new_span};
use super::store_part::StorePart;
use super::{Traces, attributes, names};
use crate::telemetry::clock::Moment;

/// One load, as long as somebody waits for it.
#[derive(Debug)]
pub struct LoadTrace {
    /// None when it is over.
    trace: Mutex<Option<Arc<CommandTrace>>>,
    id: SpanId,
    /// No command began it.
    is_alone: bool,
}

/// How it went.
#[derive(Debug)]
pub struct Loaded<'a> {
    /// The store's part.
    pub store: StorePart<'a>,
    /// When its statement was sent, and with how many keys; none where that is not known apart.
    pub sent: Option<(Moment, u64)>,
    /// There is such a row.
    pub found: bool,
}

impl LoadTrace {
    /// One that this command begins.
    #[must_use]
    pub fn of(trace: Arc<CommandTrace>) -> Self {
        Self { trace: Mutex::new(Some(trace)), id: new_span(), is_alone: false }
    }

    /// One that nobody has asked for; none while traces are off.
    #[must_use]
    pub fn alone(traces: &Arc<Traces>) -> Option<Self> {
        if !traces.are_on() {
            return None;
        }
        let trace = CommandTrace::begin(traces, Root::of_itself(names::LOAD), Moment::now(), false);
        Some(Self { id: trace.span, trace: Mutex::new(Some(trace)), is_alone: true })
    }

    /// This command waits for it, too.
    pub fn followed_by(&self, trace: &CommandTrace) {
        if let Some(its) = self.its() {
            trace.follows(&its, self.id);
        }
    }

    fn its(&self) -> Option<Arc<CommandTrace>> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody waits for it any more, though it may be remembered.
    pub fn is_over(&self) {
        let its = self.trace.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(its);
    }

    /// It has ended.
    pub fn ended(&self, loaded: &Loaded<'_>) {
        let Some(trace) = self.its() else { return };
        let Loaded { store, sent, found } = loaded;
        let mut part = Part::new(SpanKind::Internal, titled(names::LOAD, Some(store.mapping)), store.begun);
        let (begun, ended) = (part.begun, part.ended);
        (part.id, part.error) = (self.id, store.error.map(str::to_owned));
        part.attributes =
            vec![attributes::text(attributes::MAPPING, store.mapping), KeyValue::new(attributes::FOUND, *found)];
        let asked = sent.map_or(begun, |(at, _)| at);
        if asked > begun {
            let mut wait = Part::new(SpanKind::Internal, names::WAIT, begun);
            (wait.parent, wait.ended) = (Some(self.id), asked);
            trace.add(wait);
        }
        let mut statement = store.part(names::SELECT);
        (statement.parent, statement.begun, statement.ended) = (Some(self.id), asked, ended);
        if let Some((_, keys)) = sent.filter(|(_, keys)| *keys > 1) {
            statement.attributes.push(KeyValue::new(attributes::BATCH_SIZE, keys.cast_signed()));
        }
        trace.add(statement);
        if self.is_alone { trace.was(part) } else { trace.add(part) }
    }
}
