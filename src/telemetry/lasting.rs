//! Runs the parts of the sidecar that go on as long as it does. One that ends in a panic is counted and told to
//! operators, and begins again with what it has.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinError;

use super::lasting_part::LastingPart;
use super::metrics::PanicMetrics;
use super::planted::is_planted_once;

/// The pause before a part begins again: at first, and at most, where it ends in a panic again and again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// One that has gone on for so long begins again as after its first panic.
const SOUND: Duration = Duration::from_mins(1);

/// Runs a part until it ends otherwise than in a panic. What `run` holds of it stays as the panic has left it.
pub async fn lasting(part: LastingPart, panics: Arc<PanicMetrics>, mut run: impl AsyncFnMut()) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        if caught(part, &panics, run()).await.is_some() {
            return;
        }
        if begun.elapsed() >= SOUND {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What a task of a part gives; nothing where it ends in a panic.
pub async fn caught<T>(part: LastingPart, panics: &PanicMetrics, task: impl Future<Output = T>) -> Option<T> {
    let task = async {
        assert!(!is_planted_once(&format!("panic-of-{}", part.name())), "a planted bug");
        task.await
    };
    let ended = AssertUnwindSafe(task).catch_unwind().await.ok();
    if ended.is_none() {
        panics.panicked(part);
        let (name, words, meaning) = (part.name(), part.words(), part.meaning());
        tracing::error!(
            part = name,
            "{words} ended in a panic, which is a bug: please report it, with the lines before this one. {meaning}"
        );
    }
    ended
}

/// What a task has given, for whoever waits for it as a part: a panic of it is one of the part. Nothing where it was
/// ended before.
pub fn joined<T>(ended: Result<T, JoinError>) -> Option<T> {
    ended.map_err(|error| error.try_into_panic().map_or((), |panic| resume_unwind(panic))).ok()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::{LastingPart, caught, lasting};
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_part_that_ends_in_a_panic_begins_again_with_what_it_has() {
        let (panics, (sender, mut orders)) = (Metrics::default().panics, mpsc::unbounded_channel());
        [1, 0, 2, 0, 3].into_iter().for_each(|number| sender.send(number).expect("it is received"));
        drop(sender);
        let mut done = Vec::new();
        let run = async || {
            while let Some(number) = orders.recv().await {
                assert_ne!(number, 0, "a bug");
                done.push(number);
            }
        };
        lasting(LastingPart::Sweeper, panics.clone(), run).await;
        assert_eq!(
            (done, panics.count(LastingPart::Sweeper), panics.count(LastingPart::Reaper)),
            (vec![1, 2, 3], 2, 0)
        );
    }

    #[tokio::test]
    async fn what_a_task_gives_is_given_on() {
        let panics = Metrics::default().panics;
        assert_eq!(caught(LastingPart::Admin, &panics, async { 7 }).await, Some(7));
        assert_eq!(panics.count(LastingPart::Admin), 0);
    }
}
