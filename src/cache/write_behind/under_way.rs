//! The flushes that are under way, each of one strand. One that ends in a panic leaves its strand to the next.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// Flushes, and where their strands stand.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    flushes: JoinSet<()>,
    strands: HashMap<Id, usize>,
}

impl UnderWay {
    /// Begins the flush of a strand, unless one is under way.
    pub(super) fn begin<F>(&mut self, strand: usize, flush: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.strands.values().all(|busy| *busy != strand) {
            let begun = self.flushes.spawn(flush());
            self.strands.insert(begun.id(), strand);
        }
    }

    /// Waits for the next end; none while nothing is under way. It may be given up at any await.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let (id, failed) = match self.flushes.join_next_with_id().await? {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        self.strands.remove(&id);
        if let Some(error) = failed.filter(|error| error.is_panic()) {
            tracing::error!(
                %error,
                "the saving of deferred writes ended in a panic, which is a bug: please report it. What waits is \
                 saved by the next attempt"
            );
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::UnderWay;

    #[tokio::test]
    async fn a_flush_that_ends_in_a_panic_leaves_its_strand_to_the_next() {
        let (mut under_way, bug) = (UnderWay::default(), true);
        under_way.begin(3, || async move { assert!(!bug, "a bug") });
        under_way.begin(3, || async { unreachable!("one is under way") });
        assert_eq!(under_way.ended().await, Some(()));
        let (begun, begins) = tokio::sync::oneshot::channel();
        under_way.begin(3, || async move { begun.send(()).expect("it is waited for") });
        begins.await.expect("another has begun");
        assert_eq!((under_way.ended().await, under_way.ended().await), (Some(()), None));
    }
}
