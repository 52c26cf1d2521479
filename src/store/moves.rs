//! The store is another server than before: what is under way at the old one has no answer to wait for. Knows no
//! engine.

use std::sync::Arc;

use tokio::sync::watch;

/// Told of it. A clone is told of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves(Arc<watch::Sender<u64>>);

/// Somebody who relies on the server that the store was when this was made.
#[derive(Debug)]
pub(super) struct Stay {
    seen: watch::Receiver<u64>,
    /// It tells as long as this is held.
    _moves: Moves,
}

impl Moves {
    /// The store is another server from now on.
    pub(super) fn tell(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// From now on.
    pub(super) fn stay(&self) -> Stay {
        Stay { seen: self.0.subscribe(), _moves: self.clone() }
    }
}

impl Stay {
    /// What a future gives, unless its server is left before.
    pub(super) async fn unless_left<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut seen = self.seen.clone();
        tokio::select! {
            biased;
            _ = seen.changed() => None,
            given = future => Some(given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Moves;

    #[tokio::test]
    async fn who_began_at_another_server_waits_no_more() {
        let moves = Moves::default();
        let before = moves.stay();
        assert_eq!(before.unless_left(async { 1 }).await, Some(1));
        moves.tell();
        let after = moves.stay();
        assert_eq!(before.unless_left(std::future::pending::<()>()).await, None);
        assert_eq!(before.unless_left(async { 1 }).await, None, "also what has not begun yet");
        assert_eq!(after.unless_left(async { 1 }).await, Some(1));
    }
}
