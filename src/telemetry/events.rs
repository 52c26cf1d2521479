//! What the log has said lately that an operator should know: every warning and error, and what tells that something is
//! well again. What is said again and again is one event, with its count.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::clock::UnixMs;

/// So many are remembered.
const MOST: usize = 200;

/// A longer text is cut.
const LONGEST: usize = 1000;

/// Whoever says by a plain message that something has come back, or was done.
const HERALDS: [&str; 4] = [
    "hearthside::app::reload",
    "hearthside::app::background",
    "hearthside::store::postgres::feed",
    "hearthside::upstream::endpoint::health",
];

/// What was said, perhaps more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct Event {
    pub level: Level,
    pub message: String,
    pub mapping: Option<String>,
    /// The rest of the line, as it was the last time.
    pub details: String,
    pub count: u64,
    pub first: UnixMs,
    pub last: UnixMs,
}

/// Those of the process, the newest at the end.
static EVENTS: LazyLock<Mutex<VecDeque<Event>>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, VecDeque<Event>> {
    EVENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last of them, the newest first.
#[must_use]
pub fn last() -> Vec<Event> {
    lock().iter().rev().cloned().collect()
}

/// True of what is noted, whatever of it is written.
pub(super) fn is_noted(metadata: &Metadata<'_>) -> bool {
    let is_ours = || metadata.target().starts_with("hearthside");
    let is_herald = || HERALDS.iter().any(|herald| metadata.target().starts_with(herald));
    *metadata.level() <= Level::WARN && is_ours() || *metadata.level() == Level::INFO && is_herald()
}

/// The fields of a line.
#[derive(Default)]
struct Line {
    message: String,
    mapping: Option<String>,
    details: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "mapping" => {
                self.mapping = Some(format!("{value:?}").trim_matches('"').to_owned());
                Ok(())
            }
            name => write!(self.details, "{}{name}={value:?}", if self.details.is_empty() { "" } else { " " }),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "mapping" => self.mapping = Some(value.to_owned()),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }
}

/// Notes it.
pub(super) fn note_event(event: &tracing::Event<'_>) {
    let mut line = Line::default();
    event.record(&mut line);
    note(*event.metadata().level(), line, UnixMs::now());
}

fn note(level: Level, line: Line, now: UnixMs) {
    let Line { message, mapping, details } = line;
    let cut = |text: String| text.chars().take(LONGEST).collect::<String>();
    let (message, details) = (cut(message), cut(details));
    let mut events = lock();
    let is_same = |known: &Event| (known.level, &known.message, &known.mapping) == (level, &message, &mapping);
    let known = events.iter().position(is_same).and_then(|at| events.remove(at));
    let (count, first) = known.map_or((1, now), |known| (known.count + 1, known.first));
    events.push_back(Event { level, message, mapping, details, count, first, last: now });
    if events.len() > MOST {
        events.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{Line, MOST, last, note};
    use crate::telemetry::clock::UnixMs;

    #[test]
    fn what_is_said_again_is_one_event_and_the_oldest_go() {
        let say = |message: &str, mapping: &str, at| {
            let mapping = Some(mapping.to_owned());
            let line = Line { message: message.to_owned(), mapping, details: format!("at={at}") };
            note(Level::WARN, line, UnixMs::from_ms(at));
        };
        (0..MOST as i64 + 50).for_each(|at| say(&format!("other {at}"), "m", at));
        say("a load failed", "a", 1001);
        say("a load failed", "b", 1002);
        say("a load failed", "a", 1003);
        let events = last();
        assert_eq!(events.len(), MOST);
        let newest = &events[0];
        assert_eq!((&*newest.message, newest.mapping.as_deref(), newest.count), ("a load failed", Some("a"), 2));
        assert_eq!((newest.first.as_ms(), newest.last.as_ms(), &*newest.details), (1001, 1003, "at=1003"));
        assert_eq!((events[1].mapping.as_deref(), events[1].count), (Some("b"), 1));
    }
}
