//! What the log has said lately.

use serde::Serialize;

use super::times;
use crate::telemetry::events::{self, Event};

/// One event, however often it was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct EventFacts {
    pub last: String,
    pub first: String,
    pub count: u64,
    pub level: String,
    pub message: String,
    pub mapping: Option<String>,
    pub details: String,
}

impl EventFacts {
    fn of(event: Event) -> Self {
        let Event { level, message, mapping, details, count, first, last } = event;
        let (first, last) = (times::shown(first), times::shown(last));
        Self { last, first, count, level: level.as_str().to_ascii_lowercase(), message, mapping, details }
    }
}

/// The last two hundred, the newest first.
#[must_use]
pub fn event_facts() -> Vec<EventFacts> {
    events::last().into_iter().map(EventFacts::of).collect()
}
