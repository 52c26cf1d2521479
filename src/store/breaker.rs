//! A circuit breaker: after some failures in a row the store is asked nothing for a moment, and readers of keys that
//! are not in memory get their error at once instead of waiting for a timeout each. Each mapping has one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::StoreError;
use crate::config;
use crate::telemetry::clock::{Tick, millis};

#[derive(Debug)]
pub(super) struct Breaker {
    most: u32,
    pause_ms: u64,
    failures: AtomicU32,
    open_until: AtomicU64,
}

impl Breaker {
    pub(super) fn new(settings: &config::Store) -> Self {
        Self {
            most: settings.breaker_failures.max(1),
            pause_ms: millis(settings.breaker_pause),
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Relaxed) >= self.most
    }

    /// Passes while closed; once a pause is over, the first caller passes and the pause begins again for the rest. True
    /// for that caller, who finds out whether the store answers.
    pub(super) fn check(&self) -> Result<bool, StoreError> {
        if !self.is_open() {
            return Ok(false);
        }
        let (now, until) = (Tick::now().as_ms(), self.open_until.load(Relaxed));
        let probes =
            now >= until && self.open_until.compare_exchange(until, now + self.pause_ms, Relaxed, Relaxed).is_ok();
        if probes { Ok(true) } else { Err(StoreError::Open) }
    }

    /// Notes how a statement of a mapping went. Only silence counts: a refusal is an answer, and so is that a lock or
    /// the statement took too long, or what a trigger or a foreign server says over a connection that goes on.
    pub(super) fn note(&self, mapping: &str, error: Option<&StoreError>) {
        if !matches!(error, Some(StoreError::Unavailable(_) | StoreError::Ambiguous(_))) {
            self.failures.store(0, Relaxed);
            return;
        }
        if self.failures.fetch_add(1, Relaxed) + 1 == self.most {
            tracing::warn!(
                mapping,
                failures = self.most,
                "the store does not answer; keys that are not in memory get an error at once"
            );
        }
        self.open_until.store(Tick::now().as_ms() + self.pause_ms, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;
    use crate::config;
    use crate::store::StoreError;

    #[test]
    fn opens_after_failures_and_closes_after_an_answer() {
        let settings =
            config::Store { breaker_failures: 2, breaker_pause: std::time::Duration::ZERO, ..Default::default() };
        let breaker = Breaker { pause_ms: 1 << 40, ..Breaker::new(&settings) };
        let silence = StoreError::Unavailable("gone".into());
        breaker.note("k:{x}", Some(&silence));
        assert_eq!(breaker.check(), Ok(false));
        breaker.note("k:{x}", Some(&silence));
        assert_eq!(breaker.check(), Err(StoreError::Open));
        for answer in [StoreError::Refused("no such column".into()), StoreError::Overloaded("a lock".into())] {
            breaker.note("k:{x}", Some(&answer));
            assert_eq!(breaker.check(), Ok(false));
        }
    }

    #[test]
    fn a_pause_that_is_over_lets_one_probe_through() {
        let settings =
            config::Store { breaker_failures: 1, breaker_pause: std::time::Duration::ZERO, ..Default::default() };
        let mut breaker = Breaker::new(&settings);
        breaker.note("k:{x}", Some(&StoreError::Unavailable("gone".into())));
        breaker.pause_ms = 1 << 40;
        assert_eq!(breaker.check(), Ok(true));
        assert_eq!(breaker.check(), Err(StoreError::Open));
    }
}
