//! Which transactions the primary does not show yet, asked for those who have read a standby: a commit is in the log,
//! and may be replayed there, before the primary shows it; for long, where it waits for a synchronous standby. Those
//! who wait share one question, which is sent after they have read. Knows no standby.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::{Notify, watch};

use crate::store::postgres::pulse::Pulse;
use crate::store::postgres::way::Way;

const ASK: &str = "SELECT pg_current_snapshot()::text";

/// The pause between two of them.
const PACE: Duration = Duration::from_millis(2);

/// What the primary shows; none where it has not answered. As `pg_current_snapshot()` gives it: what is before its
/// second number is over, but for those behind that.
type View = Option<Arc<str>>;

/// The transactions before `end` that are not over by this snapshot; none if it cannot be read.
fn not_over(snapshot: &str, end: u64) -> Option<Vec<u64>> {
    let mut parts = snapshot.splitn(3, ':').skip(1);
    let (over, running) = (parts.next()?.parse().ok()?, parts.next()?);
    let running = running.split(',').filter(|number| !number.is_empty()).map(str::parse);
    let running: Vec<u64> = running.collect::<Result<_, _>>().ok()?;
    Some(running.into_iter().chain(over..end).filter(|number| *number < end).collect())
}

#[derive(Debug)]
pub(super) struct Views {
    primary: Pulse,
    /// How long the primary may take.
    patience: Duration,
    /// The number of the next one to be sent.
    next: AtomicU64,
    wanted: Notify,
    latest: watch::Sender<(u64, View)>,
}

impl Views {
    pub(super) fn new(direct: Way, patience: Duration) -> Self {
        let (primary, latest) = (Pulse::new(direct, patience), watch::Sender::new((0, None)));
        Self { primary, patience, next: AtomicU64::new(1), wanted: Notify::new(), latest }
    }

    /// The transactions before `end` that are not over at the primary when it answers a question that is sent from now
    /// on; none if it does not answer.
    pub(super) async fn not_over(&self, end: u64) -> Option<Vec<u64>> {
        not_over(&self.of_now().await?, end)
    }

    async fn of_now(&self) -> View {
        let number = self.next.load(SeqCst);
        let mut latest = self.latest.subscribe();
        self.wanted.notify_one();
        latest.wait_for(|(answered, _)| *answered >= number).await.ok()?.1.clone()
    }

    /// Asks when somebody waits. For ever.
    pub(super) async fn run(&self) {
        loop {
            self.wanted.notified().await;
            let number = self.next.fetch_add(1, SeqCst);
            let view = self.ask().await.inspect_err(|error| {
                tracing::debug!(%error, "the primary was not asked which transactions are not over");
            });
            self.latest.send_replace((number, view.ok()));
            tokio::time::sleep(PACE).await;
        }
    }

    async fn ask(&self) -> Result<Arc<str>, sqlx::Error> {
        let asked = tokio::time::timeout(self.patience, self.primary.run(ASK, &[])).await;
        asked.unwrap_or(Err(sqlx::Error::PoolTimedOut))?.try_get::<String, _>(0).map(Arc::from)
    }
}

#[cfg(test)]
mod tests {
    use super::not_over;

    #[test]
    fn what_runs_or_is_to_come_is_not_over() {
        assert_eq!(not_over("10:20:10,14", 22), Some(vec![10, 14, 20, 21]));
        assert_eq!(not_over("10:20:10,14", 12), Some(vec![10]));
        assert_eq!((not_over("20:20:", 20), not_over("nonsense", 1)), (Some(Vec::new()), None));
    }
}
