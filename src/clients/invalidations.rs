//! What a client is to be told of the keys of others that have named it (CLIENT TRACKING with REDIRECT), where the
//! upstream is a cluster: each of its nodes tells the sidecar, which tells the client.

use bytes::Bytes;

use super::untold::Untold;

/// The waiting ones: keys as an array, or all of them.
#[derive(Debug, Default)]
pub struct Invalidations(Untold<Option<Bytes>>);

impl Invalidations {
    pub(super) fn add(&self, keys: Option<Bytes>) {
        let some = keys.map(|keys| {
            let cost = keys.len();
            (Some(keys), cost)
        });
        self.0.add(some, (None, 1));
    }

    /// True while something waits.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_any()
    }

    /// All that waits.
    #[must_use]
    pub fn take(&self) -> Vec<Option<Bytes>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::untold::MOST;
    use super::Invalidations;

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
