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

/// The wall clock beside the process's clock, read once for all spans of a trace: read for each, a span could end
/// before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    now: SystemTime,
    moment: Moment,
}

impl WallClock {
    pub(super) fn read() -> Self {
        Self { now: SystemTime::now(), moment: Moment::now() }
    }

    /// What it showed at a moment, or will show.
    fn at(self, moment: Moment) -> SystemTime {
        let (before, after) = (self.moment.since(moment), moment.since(self.moment));
        self.now + Duration::from_micros(after) - Duration::from_micros(before)
    }
}

/// Where a span stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) trace: TraceId,
    /// The span above it, where it names no other.
    pub(super) parent: SpanId,
    pub(super) clock: WallClock,
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

    /// Its span at this place of a trace.
    pub(super) fn span(mut self, of: Place, links: SpanLinks) -> SpanData {
        let status = match &self.error {
            Some(error) => {
                self.attributes.push(KeyValue::new(attributes::ERROR_TYPE, error.clone()));
                Status::error(error.clone())
            }
            None => Status::Unset,
        };
        SpanData {
            span_context: context(of.trace, self.id),
            parent_span_id: self.parent.unwrap_or(of.parent),
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: self.name,
            start_time: of.clock.at(self.begun),
            end_time: of.clock.at(self.ended),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status,
            instrumentation_scope: InstrumentationScope::builder("hearthside").build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::trace::{SpanId, SpanKind};
    use opentelemetry_sdk::trace::SpanLinks;

    use super::{Part, Place, WallClock, new_trace};
    use crate::telemetry::clock::Moment;

    #[test]
    fn a_span_lasts_as_long_as_its_part() {
        let begun = Moment::now();
        while begun.age() < 300 {}
        let part = Part { ended: Moment::now(), ..Part::new(SpanKind::Client, "a", begun) };
        let lasted = Duration::from_micros(part.ended.since(begun));
        let place = Place { trace: new_trace(), parent: SpanId::INVALID, clock: WallClock::read() };
        let span = part.span(place, SpanLinks::default());
        assert_eq!(span.end_time.duration_since(span.start_time).expect("it ends later"), lasted);
    }
}
