//! What a sidecar did in the last minutes, so that a page that is opened now has a past: counters since the start, and
//! what is measured, noted every two seconds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::subject::Subject;
use super::times;
use crate::telemetry::clock::UnixMs;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// How far samples are apart.
const EVERY: Duration = Duration::from_secs(2);

/// So many are remembered: ten minutes.
const MOST: usize = 300;

/// One moment. What is counted is counted since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct Sample {
    pub at_ms: i64,
    pub owned: u64,
    pub passed: u64,
    pub others: u64,
    pub hits: u64,
    pub misses: u64,
    pub loads: u64,
    pub load_errors: u64,
    pub load_micros: u64,
    pub invalidations: u64,
    pub clients: usize,
    pub store_ms: Option<f64>,
    pub upstream_ms: Option<f64>,
    pub feed_ms: Option<f64>,
    pub silent_ms: Option<i64>,
}

/// The last minutes.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Sample>>);

impl History {
    /// Notes for ever what `subject` is, once there is one.
    pub async fn keep(&self, subject: impl Fn() -> Option<Arc<Subject>>) {
        let mut ticker = tokio::time::interval(EVERY);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            if let Some(subject) = subject() {
                self.note(subject.sample());
            }
        }
    }

    fn note(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(sample);
        if samples.len() > MOST {
            samples.pop_front();
        }
    }

    /// Those that were noted after this moment, the oldest first.
    #[must_use]
    pub fn after(&self, at_ms: i64) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.at_ms > at_ms).cloned().collect()
    }
}

impl Subject {
    fn sample(&self) -> Sample {
        let commands = |counted: &[(RouteLabel, Outcome)]| -> u64 {
            counted.iter().map(|(route, outcome)| self.metrics.commands.get(*route, *outcome)).sum()
        };
        let hits = [
            (RouteLabel::Definition, Outcome::Hit),
            (RouteLabel::Definition, Outcome::Absent),
            (RouteLabel::Cache, Outcome::Hit),
            (RouteLabel::Cache, Outcome::Absent),
        ];
        let writes = [(RouteLabel::Write, Outcome::Ok), (RouteLabel::Write, Outcome::Error)];
        let (hits, misses) = (commands(&hits), commands(&[(RouteLabel::Cache, Outcome::Miss)]));
        let counts = || self.mappings.list.iter().map(|mapping| self.metrics.mappings.of(mapping.pattern.text()));
        let loads = || counts().map(|counts| counts.loads());
        let (app, now) = (&self.metrics.app, UnixMs::now());
        let (store, feed) = (app.store.shown(), app.feed.shown());
        Sample {
            at_ms: now.as_ms(),
            owned: hits + misses + commands(&writes),
            passed: commands(&[
                (RouteLabel::Passthrough, Outcome::Ok),
                (RouteLabel::Pinned, Outcome::Ok),
                (RouteLabel::Near, Outcome::Hit),
                (RouteLabel::Near, Outcome::Miss),
            ]),
            others: commands(&[
                (RouteLabel::Local, Outcome::Ok),
                (RouteLabel::Split, Outcome::Ok),
                (RouteLabel::Refused, Outcome::Error),
            ]),
            hits,
            misses,
            loads: loads().map(|loads| loads.ok + loads.absent + loads.failed).sum(),
            load_errors: loads().map(|loads| loads.failed).sum(),
            load_micros: loads().map(|loads| loads.micros).sum(),
            invalidations: counts().map(|counts| counts.invalidations()).sum(),
            clients: self.clients.census().connected,
            store_ms: store.took.map(times::in_ms),
            upstream_ms: self.metrics.upstream.light.shown().took.map(times::in_ms),
            feed_ms: feed.took.map(times::in_ms),
            silent_ms: feed.heard.map(|heard| now.since(heard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, MOST, Sample};

    fn sample(at_ms: i64) -> Sample {
        Sample {
            at_ms,
            owned: 0,
            passed: 0,
            others: 0,
            hits: 0,
            misses: 0,
            loads: 0,
            load_errors: 0,
            load_micros: 0,
            invalidations: 0,
            clients: 0,
            store_ms: None,
            upstream_ms: None,
            feed_ms: None,
            silent_ms: None,
        }
    }

    #[test]
    fn the_oldest_go_and_what_is_known_is_not_told_again() {
        let history = History::default();
        (0..MOST as i64 + 10).for_each(|at_ms| history.note(sample(at_ms)));
        assert_eq!((history.after(-1).len(), history.after(-1)[0].at_ms), (MOST, 10));
        assert_eq!(history.after(MOST as i64 + 7).iter().map(|sample| sample.at_ms).collect::<Vec<_>>(), [308, 309]);
    }
}
