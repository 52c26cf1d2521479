//! What waits until a client's task tells the client of it. Looked at by that task at every turn, so it costs one
//! atomic while empty.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::telemetry::locked;

/// More bytes do not wait for a client that does not read: it is told to forget all keys.
pub(super) const MOST: usize = 64 * 1024;

/// In order, and how many bytes it takes.
#[derive(Debug)]
pub(super) struct Untold<T> {
    is_any: AtomicBool,
    waiting: Mutex<(Vec<T>, usize)>,
}

impl<T> Default for Untold<T> {
    fn default() -> Self {
        Self { is_any: AtomicBool::new(false), waiting: Mutex::default() }
    }
}

impl<T> Untold<T> {
    /// One thing more, and its bytes. `all`, which is about all keys, takes the place of everything if there is none,
    /// or no room for it.
    pub(super) fn add(&self, one: Option<(T, usize)>, all: (T, usize)) {
        let mut waiting = locked(&self.waiting);
        let (list, bytes) = &mut *waiting;
        match one.filter(|(_, cost)| *bytes + cost <= MOST) {
            Some((one, cost)) => {
                list.push(one);
                *bytes += cost;
            }
            None => (*list, *bytes) = (vec![all.0], all.1),
        }
        self.is_any.store(true, Relaxed);
    }

    /// True while something waits.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    /// All that waits.
    pub(super) fn take(&self) -> Vec<T> {
        let mut waiting = locked(&self.waiting);
        self.is_any.store(false, Relaxed);
        std::mem::take(&mut *waiting).0
    }
}
