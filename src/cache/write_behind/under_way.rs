//! The flushes that are under way, each of one strand. One that ends in a panic leaves its strand to the next.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::{LastingPart, caught};

/// Flushes, and where their strands stand.
#[derive(Debug)]
pub(super) struct UnderWay {
    flushes: JoinSet<()>,
    strands: HashMap<Id, usize>,
    panics: Arc<PanicMetrics>,
}

impl UnderWay {
    pub(super) fn new(panics: Arc<PanicMetrics>) -> Self {
        Self { flushes: JoinSet::new(), strands: HashMap::new(), panics }
    }

    /// Begins the flush of a strand, unless one is under way.
    pub(super) fn begin<F>(&mut self, strand: usize, flush: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.strands.values().all(|busy| *busy != strand) {
            let (panics, flush) = (self.panics.clone(), flush());
            let begun = self.flushes.spawn(async move { _ = caught(LastingPart::Flushing, &panics, flush).await });
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
    use super::{LastingPart, UnderWay};
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_flush_that_ends_in_a_panic_leaves_its_strand_to_the_next() {
        let (panics, bug) = (Metrics::default().panics, true);
        let mut under_way = UnderWay::new(panics.clone());
        under_way.begin(3, || async move { assert!(!bug, "a bug") });
        under_way.begin(3, || async { unreachable!("one is under way") });
        assert_eq!((under_way.ended().await, panics.count(LastingPart::Flushing)), (Some(()), 1));
        let (begun, begins) = tokio::sync::oneshot::channel();
        under_way.begin(3, || async move { begun.send(()).expect("it is waited for") });
        begins.await.expect("another has begun");
        assert_eq!((under_way.ended().await, under_way.ended().await), (Some(()), None));
    }
}
