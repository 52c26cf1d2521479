//! Commands that an operator holds back: for whom, since when and until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use crate::telemetry::clock::UnixMs;

/// Nobody holds commands back for longer: who has forgotten it is helped, and who has not asks again.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Commands are held back.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// When that was asked for.
    pub since: UnixMs,
    /// They go on by themselves then.
    pub until: Instant,
}

impl Pause {
    fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    /// When they go on by themselves.
    #[must_use]
    pub fn ends_at(&self) -> UnixMs {
        let left = self.until.saturating_duration_since(Instant::now());
        UnixMs::now().plus(i64::try_from(left.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Endpoint {
    /// Holds commands back, for at most `most` and [`LONGEST_PAUSE`], from now on; the future ends when none is under
    /// way on a lane any more.
    pub fn pause(self: Arc<Self>, most: Duration) -> impl Future<Output = ()> {
        tracing::warn!(milliseconds = most.as_millis(), "commands for the upstream are held back (HEARTHSIDE PAUSE)");
        let pause = Pause { since: UnixMs::now(), until: Instant::now() + most.min(LONGEST_PAUSE) };
        self.each(|server| server.location.pause(Some(pause)));
        async move {
            while self.metrics.lanes.held.get() < self.metrics.lanes.connected.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Whether an operator holds commands back.
    #[must_use]
    pub fn paused(&self) -> Option<Pause> {
        self.location.paused().filter(|pause| !pause.is_over())
    }

    /// Lets commands go on.
    pub fn resume(&self) {
        let mut was_paused = false;
        self.each(|server| was_paused |= server.location.resume());
        if was_paused {
            tracing::info!("commands go to the upstream again (HEARTHSIDE RESUME)");
        }
    }
}
