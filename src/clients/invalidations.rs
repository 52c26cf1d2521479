//! What a client is to be told of the keys of others that have named it (CLIENT TRACKING with REDIRECT), where the
//! upstream is a cluster: each of its nodes tells the sidecar, which tells the client. Looked at by the client's task
//! at every turn, so it costs one atomic while empty.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// More bytes do not wait for a client that does not read: it is told to forget all keys.
const MOST: usize = 64 * 1024;

/// The waiting ones.
#[derive(Debug, Default)]
pub struct Invalidations {
    is_any: AtomicBool,
    waiting: Mutex<Untold>,
}

#[derive(Debug, Default)]
struct Untold {
    /// Keys as an array, or all of them.
    keys: Vec<Option<Bytes>>,
    bytes: usize,
}

impl Invalidations {
    pub(super) fn add(&self, keys: Option<Bytes>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += keys.as_ref().map_or(1, Bytes::len);
        let is_all = keys.is_none() || waiting.bytes > MOST;
        if is_all {
            *waiting = Untold { keys: vec![None], bytes: 1 };
        } else {
            waiting.keys.push(keys);
        }
        self.is_any.store(true, Relaxed);
    }

    /// True while something waits.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    /// All that waits.
    #[must_use]
    pub fn take(&self) -> Vec<Option<Bytes>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_any.store(false, Relaxed);
        std::mem::take(&mut *waiting).keys
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Invalidations, MOST};

    #[test]
    fn what_is_too_much_becomes_all_keys() {
        let invalidations = Invalidations::default();
        let some = |length| Some(Bytes::from(vec![b'x'; length]));
        invalidations.add(some(10));
        invalidations.add(some(20));
        assert_eq!((invalidations.is_any(), invalidations.take()), (true, vec![some(10), some(20)]));
        invalidations.add(some(10));
        invalidations.add(some(MOST));
        invalidations.add(some(30));
        assert_eq!(invalidations.take(), [None, some(30)], "a value read after that may be kept");
        assert!(!invalidations.is_any() && invalidations.take().is_empty());
    }
}
