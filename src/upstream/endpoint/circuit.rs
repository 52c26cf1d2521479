//! Whether the upstream can be reached, for all connections of the process. While it cannot, attempts take turns, so
//! that no storm of them meets a server that is coming up (hazard 19); when it has been away for long, nothing waits
//! for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::error::ConnectError;
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::CircuitMetric;

/// The circuit breaker of one upstream.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: Mutex<Attempts>,
    changed: Notify,
    /// Whether the upstream answers is to be asked now.
    doubted: Notify,
    /// Unreachable for so long, it is open.
    open_after: Duration,
    metrics: CircuitMetric,
    /// Log lines about a lack that is not the upstream's.
    excuses: LogThrottle,
}

#[derive(Debug, Default)]
struct Attempts {
    /// Failed attempts since the last that succeeded.
    failures: u32,
    /// The first of them.
    since: Option<Instant>,
    /// No attempt before this moment.
    next: Option<Instant>,
    /// Somebody attempts now.
    is_taken: bool,
    /// Why the last one failed.
    why: Option<ConnectError>,
}

/// Leave for one attempt to connect; dropped without a word, the next one may try.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    circuit: &'a Circuit,
    /// While the upstream is away there is one at a time.
    is_only: bool,
}

impl Circuit {
    /// A circuit that opens when the upstream has been unreachable for `open_after`.
    #[must_use]
    pub(super) fn new(open_after: Duration, metrics: CircuitMetric) -> Self {
        let (changed, doubted) = (Notify::new(), Notify::new());
        Self { state: Mutex::default(), changed, doubted, open_after, metrics, excuses: LogThrottle::default() }
    }

    fn state(&self) -> MutexGuard<'_, Attempts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while nothing should wait for the upstream; the metric tells it too.
    pub(crate) fn is_open(&self) -> bool {
        let is_open = self.state().since.is_some_and(|since| since.elapsed() >= self.open_after);
        self.metrics.set(i64::from(is_open));
        is_open
    }

    /// A connection was lost, or one was opened again: whether the upstream answers may be something else now.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Returns when that has happened since it last returned; for the one who asks.
    pub(super) async fn is_doubted(&self) {
        self.doubted.notified().await;
    }

    /// Failed attempts since the last that succeeded.
    pub(crate) fn attempts(&self) -> u32 {
        self.state().failures
    }

    /// Why the last attempt failed, while none succeeds.
    pub(super) fn why(&self) -> Option<ConnectError> {
        self.state().why.clone()
    }

    /// Waits for leave to attempt: at once while all is well, in turn and after a pause while it is not.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let pause = match self.take() {
                Ok(turn) => return turn,
                Err(pause) => pause,
            };
            match pause {
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                None => changed.await,
            }
        }
    }

    /// A turn; or until when there is none, if that is known.
    ///
    /// # Errors
    /// There is none now.
    pub(crate) fn take(&self) -> Result<Turn<'_>, Option<Instant>> {
        let mut state = self.state();
        if state.failures == 0 {
            return Ok(Turn { circuit: self, is_only: false });
        }
        if state.is_taken {
            return Err(None);
        }
        match state.next.filter(|next| *next > Instant::now()) {
            Some(next) => Err(Some(next)),
            None => {
                state.is_taken = true;
                Ok(Turn { circuit: self, is_only: true })
            }
        }
    }

    /// Another upstream: what was learnt about the last one does not count.
    pub(super) fn begin_again(&self) {
        let is_taken = self.state().is_taken;
        *self.state() = Attempts { is_taken, ..Attempts::default() };
        self.metrics.set(0);
        self.changed.notify_waiters();
    }
}

impl Turn<'_> {
    /// The upstream answered, whatever it said.
    pub(super) fn succeeded(self) {
        let mut state = self.circuit.state();
        if state.failures > 0 || state.why.is_some() {
            *state = Attempts { is_taken: state.is_taken, ..Attempts::default() };
            self.circuit.doubt();
        }
        self.circuit.metrics.set(0);
    }

    /// There was no attempt worth counting: something else was lacking. True when that is to be logged.
    pub(super) fn excused(self, why: &ConnectError) -> bool {
        self.circuit.state().why = Some(why.clone());
        self.circuit.excuses.due().is_some()
    }

    /// It did not. The number of attempts in a row that failed.
    pub(super) fn failed(self, why: &ConnectError) -> u32 {
        let mut state = self.circuit.state();
        state.why = Some(why.clone());
        // Of attempts that began while all was well, the first one to fail counts.
        if self.is_only || state.failures == 0 {
            let now = Instant::now();
            state.failures += 1;
            if state.failures == 1 {
                self.circuit.doubt();
            }
            state.since.get_or_insert(now);
            state.next = Some(now + backoff(state.failures));
        }
        state.failures
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_only {
            self.circuit.state().is_taken = false;
        }
        self.circuit.changed.notify_waiters();
    }
}

/// The pause before the next attempt: min(attempt x 100, 3000) ms with jitter (hazard 19).
pub(crate) fn backoff(attempt: u32) -> Duration {
    let most = (u64::from(attempt) * 100).min(3000);
    Duration::from_millis(fastrand::u64(most / 2..=most))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Circuit, CircuitMetric, ConnectError, backoff};

    fn away() -> ConnectError {
        ConnectError::Unreachable("redis://nowhere".into(), "refused".into())
    }

    #[tokio::test]
    async fn attempts_take_turns_while_they_fail() {
        let circuit = Circuit::new(Duration::from_secs(3600), CircuitMetric::default());
        let (first, second) = (circuit.turn().await, circuit.turn().await);
        assert_eq!((first.failed(&away()), second.failed(&away())), (1, 1), "they began together");
        let only = circuit.turn().await;
        assert!(circuit.take().is_err(), "one at a time");
        assert_eq!(only.failed(&away()), 2);
        assert!(circuit.take().is_err_and(|until| until.is_some()), "a pause");
        drop(circuit.turn().await);
        assert!(circuit.take().is_ok(), "one that says nothing leaves its turn");
        circuit.turn().await.succeeded();
        let (_one, _other) = (circuit.take().expect("well again"), circuit.take().expect("for all"));
        assert!(!circuit.is_open());
    }

    #[tokio::test]
    async fn it_is_open_when_the_upstream_has_been_away_for_long() {
        let circuit = Circuit::new(Duration::ZERO, CircuitMetric::default());
        assert!(!circuit.is_open());
        circuit.turn().await.failed(&away());
        assert_eq!(circuit.why(), Some(away()));
        assert!(circuit.is_open());
        circuit.begin_again();
        assert!(!circuit.is_open());
    }

    #[tokio::test]
    async fn a_lack_of_our_own_does_not_count() {
        let circuit = Circuit::new(Duration::ZERO, CircuitMetric::default());
        assert!(circuit.turn().await.excused(&ConnectError::NoFiles));
        assert!(!circuit.turn().await.excused(&ConnectError::NoFiles), "it has just been logged");
        assert_eq!((circuit.is_open(), circuit.attempts()), (false, 0));
        assert_eq!(circuit.why(), Some(ConnectError::NoFiles));
        circuit.turn().await.succeeded();
        assert_eq!(circuit.why(), None);
    }

    #[test]
    fn pauses_grow_to_three_seconds() {
        for (attempt, most) in [(1, 100), (7, 700), (30, 3000), (4_000_000_000, 3000)] {
            for _ in 0..100 {
                let pause = backoff(attempt).as_millis();
                assert!((most / 2..=most).contains(&pause), "{attempt}: {pause}");
            }
        }
    }
}
