//! The upstream's part of a command: from the moment it is sent until its last reply has come.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::command_trace::CommandTrace;
use super::part::Part;
use super::{attributes, names};
use crate::telemetry::clock::Moment;

/// It ends when it is dropped.
#[derive(Debug)]
pub struct UpstreamPart {
    trace: Arc<CommandTrace>,
    /// When, and to which server.
    sent: Option<(Moment, String)>,
    /// It is one request, which another server had sent elsewhere.
    is_again: bool,
}

impl UpstreamPart {
    pub(super) const fn of(trace: Arc<CommandTrace>, is_again: bool) -> Self {
        Self { trace, sent: None, is_again }
    }

    /// It is sent to this server (`host:port`), perhaps once more.
    pub fn sent(&mut self, server: String) {
        self.end();
        self.sent = Some((Moment::now(), server));
    }

    fn end(&mut self) {
        let Some((begun, server)) = self.sent.take() else { return };
        let root = self.trace.root();
        let is_one_of_many = self.is_again && root.size > 1;
        let name = if is_one_of_many { names::REDIRECTED.to_owned() } else { root.name() };
        let mut part = Part::new(SpanKind::Client, format!("{} {name}", names::UPSTREAM), begun);
        part.attributes = vec![KeyValue::new(attributes::SYSTEM, "redis"), KeyValue::new(attributes::OPERATION, name)];
        if root.size > 1 && !is_one_of_many {
            part.attributes.push(KeyValue::new(attributes::BATCH_SIZE, i64::from(root.size)));
        }
        part.attributes.extend(attributes::place([attributes::SERVER_ADDRESS, attributes::SERVER_PORT], &server));
        self.trace.add(part);
    }
}

impl Drop for UpstreamPart {
    fn drop(&mut self) {
        self.end();
    }
}
