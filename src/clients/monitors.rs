//! The clients that monitor (MONITOR), on whichever thread they are, and what each is still to be shown of what the
//! others ask. Nobody waits for a monitor: what it does not read in time is more than may wait for it, and ends it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::telemetry::client_memory::Holding;

/// From so many bytes on, what waits is reported to other threads.
const REPORTED_FROM: usize = 4096;

/// Everybody who monitors.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many there are.
    count: AtomicUsize,
    screens: Mutex<Vec<Arc<Screen>>>,
}

impl Monitors {
    /// True while somebody monitors.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// One more, for which at most `most` bytes may wait; it is one for as long as it keeps what it gets.
    #[must_use]
    pub fn join(self: &Arc<Self>, most: usize, holding: Arc<Holding>) -> Watching {
        let screen = Arc::new(Screen { most, holding, state: Mutex::default() });
        let mut screens = self.screens();
        screens.push(screen.clone());
        self.count.store(screens.len(), Relaxed);
        Watching { screen, monitors: self.clone() }
    }

    /// Shows all of them a line.
    pub fn show(&self, line: &Bytes) {
        self.screens().iter().for_each(|screen| screen.show(line));
    }

    fn screens(&self) -> MutexGuard<'_, Vec<Arc<Screen>>> {
        self.screens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for one of them.
#[derive(Debug)]
struct Screen {
    most: usize,
    /// What the client holds, as the others see it.
    holding: Arc<Holding>,
    state: Mutex<Unshown>,
}

#[derive(Debug, Default)]
struct Unshown {
    lines: VecDeque<Bytes>,
    held: usize,
    /// More waited than may: no more is kept.
    has_overflowed: bool,
    /// The bytes that were last reported to other threads.
    reported: usize,
    waker: Option<Waker>,
}

impl Screen {
    fn state(&self) -> MutexGuard<'_, Unshown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, line: &Bytes) {
        let mut state = self.state();
        if state.has_overflowed {
            return;
        }
        state.held += line.len();
        if state.held > self.most {
            state.lines.clear();
            (state.held, state.has_overflowed) = (0, true);
        } else {
            state.lines.push_back(line.clone());
        }
        self.report(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn report(&self, state: &mut Unshown) {
        let held = Some(state.held).filter(|held| *held >= REPORTED_FROM).unwrap_or(0);
        if held != state.reported {
            self.holding.note_outbox(std::mem::replace(&mut state.reported, held), held);
        }
    }
}

/// What waited for it is gone.
impl Drop for Screen {
    fn drop(&mut self) {
        self.holding.note_outbox(self.state().reported, 0);
    }
}

/// More waited for a monitor than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// One client's part: dropping it ends the monitoring.
#[derive(Debug)]
pub struct Watching {
    screen: Arc<Screen>,
    monitors: Arc<Monitors>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut screens = self.monitors.screens();
        screens.retain(|screen| !Arc::ptr_eq(screen, &self.screen));
        self.monitors.count.store(screens.len(), Relaxed);
    }
}

impl Watching {
    /// Wakes the task of `cx` when another line comes.
    ///
    /// # Errors
    /// Too much waited.
    pub fn watch(&self, cx: &Context<'_>) -> Result<(), Unread> {
        let mut state = self.screen.state();
        if state.has_overflowed {
            return Err(Unread);
        }
        state.waker = Some(cx.waker().clone());
        Ok(())
    }

    /// The next line.
    ///
    /// # Errors
    /// Too much waited.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<Result<Bytes, Unread>> {
        let mut state = self.screen.state();
        if let Some(line) = state.lines.pop_front() {
            state.held -= line.len();
            self.screen.report(&mut state);
            return Poll::Ready(Ok(line));
        }
        if state.has_overflowed {
            return Poll::Ready(Err(Unread));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::{Monitors, Unread};

    #[test]
    fn each_monitor_has_its_own_bound_and_none_holds_up_another() {
        let (monitors, cx) = (Arc::new(Monitors::default()), Context::from_waker(Waker::noop()));
        assert!(!monitors.is_any());
        let (slow, quick) = (monitors.join(10, Arc::default()), monitors.join(10, Arc::default()));
        let line = Bytes::from_static(b"1234567");
        for _ in 0..3 {
            monitors.show(&line);
            assert_eq!(quick.poll_take(&cx), Poll::Ready(Ok(line.clone())));
        }
        assert_eq!((quick.poll_take(&cx), quick.watch(&cx)), (Poll::Pending, Ok(())));
        assert_eq!((slow.poll_take(&cx), slow.watch(&cx)), (Poll::Ready(Err(Unread)), Err(Unread)));
        drop(slow);
        assert!(monitors.is_any());
        drop(quick);
        assert!(!monitors.is_any());
    }
}
