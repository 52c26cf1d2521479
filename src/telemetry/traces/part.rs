//! A part of a command: what it waited for at the store or the upstream, from when to when.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::attributes;
use crate::telemetry::clock::Moment;

/// One that has ended.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) id: SpanId,
    /// The part that it belongs to; none: the command itself.
    pub(super) parent: Option<SpanId>,
    pub(super) kind: SpanKind,
    pub(super) name: Cow<'static, str>,
    pub(super) begun: Moment,
    pub(super) ended: Moment,
    pub(super) attributes: Vec<KeyValue>,
    /// One word for what went wrong.
    pub(super) error: Option<String>,
}

pub(super) fn new_span() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

pub(super) fn new_trace() -> TraceId {
    TraceId::from(fastrand::u128(1..))
}

pub(super) fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// The wall clock's time of a moment, as seen from now.
fn time(moment: Moment) -> SystemTime {
    SystemTime::now() - Duration::from_micros(moment.age())
}

impl Part {
    /// One of this kind, which ends now.
    pub(super) fn new(kind: SpanKind, name: impl Into<Cow<'static, str>>, begun: Moment) -> Self {
        Self {
            id: new_span(),
            parent: None,
            kind,
            name: name.into(),
            begun,
            ended: Moment::now(),
            attributes: Vec::new(),
            error: None,
        }
    }

    /// Its span in this trace, below this span where it names no other.
    pub(super) fn span(mut self, trace: TraceId, parent: SpanId, links: SpanLinks) -> SpanData {
        let status = match &self.error {
            Some(error) => {
                self.attributes.push(KeyValue::new(attributes::ERROR_TYPE, error.clone()));
                Status::error(error.clone())
            }
            None => Status::Unset,
        };
        SpanData {
            span_context: context(trace, self.id),
            parent_span_id: self.parent.unwrap_or(parent),
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: self.name,
            start_time: time(self.begun),
            end_time: time(self.ended),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status,
            instrumentation_scope: InstrumentationScope::builder("hearthside").build(),
        }
    }
}
