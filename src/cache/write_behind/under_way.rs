//! The flushes that are under way, each of one strand. One that ends in a panic leaves its strand to the next, which
//! comes after a rest: it may end so each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::{LastingPart, caught};

/// Flushes, and where their strands stand.
#[derive(Debug)]
pub(super) struct UnderWay {
    flushes: JoinSet<()>,
    strands: HashMap<Id, usize>,
    panics: Arc<PanicMetrics>,
    /// For how long a strand rests after a panic.
    rest: Duration,
}

impl UnderWay {
    pub(super) fn new(panics: Arc<PanicMetrics>, rest: Duration) -> Self {
        Self { flushes: JoinSet::new(), strands: HashMap::new(), panics, rest }
    }

    /// Begins the flush of a strand, unless one is under way.
    pub(super) fn begin<F>(&mut self, strand: usize, flush: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.strands.values().all(|busy| *busy != strand) {
            let (panics, rest, flush) = (self.panics.clone(), self.rest, flush());
            let begun = self.flushes.spawn(async move {
                if caught(LastingPart::Flushing, &panics, flush).await.is_none() {
                    tokio::time::sleep(rest).await;
                }
            });
            self.strands.insert(begun.id(), strand);
        }
    }

    /// Waits for the next end; none while nothing is under way. It may be given up at any await.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let id = match self.flushes.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.strands.remove(&id);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::{LastingPart, UnderWay};
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_flush_that_ends_in_a_panic_leaves_its_strand_to_the_next() {
        let (panics, bug) = (Metrics::default().panics, true);
        let mut under_way = UnderWay::new(panics.clone(), Duration::ZERO);
        under_way.begin(3, || async move { assert!(!bug, "a bug") });
        under_way.begin(3, || async { unreachable!("one is under way") });
        assert_eq!((under_way.ended().await, panics.count(LastingPart::Flushing)), (Some(()), 1));
        let (begun, begins) = tokio::sync::oneshot::channel();
        under_way.begin(3, || async move { begun.send(()).expect("it is waited for") });
        begins.await.expect("another has begun");
        assert_eq!((under_way.ended().await, under_way.ended().await), (Some(()), None));
    }

    #[tokio::test]
    async fn a_strand_rests_after_a_panic_and_no_other_does() {
        let (panics, bug) = (Metrics::default().panics, true);
        let mut under_way = UnderWay::new(panics.clone(), Duration::from_hours(1));
        under_way.begin(3, || async move { assert!(!bug, "a bug") });
        while panics.count(LastingPart::Flushing) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(under_way.ended().now_or_never(), None, "it rests");
        under_way.begin(3, || async { unreachable!("it rests") });
        under_way.begin(4, || async {});
        assert_eq!(under_way.ended().await, Some(()));
    }
}
