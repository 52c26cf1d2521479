//! When the outbox is cleaned, and of what: of that which could be seen a minute ago, so that whoever reads has read
//! it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// It is tried so often: a table has its turn to be emptied for a minute.
const EVERY: Duration = Duration::from_secs(30);

/// What was seen so many turns ago may go.
const TURNS: usize = 3;

/// Nobody adds rows any more for so long: what could not be emptied waits until somebody does again.
const ENOUGH: Duration = Duration::from_secs(600);

/// What could be seen at earlier turns.
pub(super) struct Cleaning {
    next: Instant,
    seen: VecDeque<String>,
}

impl Cleaning {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now + EVERY, seen: VecDeque::new() }
    }

    /// What may be emptied now, as the snapshot that sees it; `snapshot` is that of now.
    pub(super) fn due(&mut self, now: Instant, snapshot: &str, rests_since: Option<Instant>) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        self.seen.push_back(snapshot.to_owned());
        let seen = (self.seen.len() >= TURNS).then(|| self.seen.pop_front())??;
        rests_since.is_none_or(|since| now < since + ENOUGH).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Cleaning;

    #[test]
    fn what_was_seen_a_minute_ago_is_emptied_while_rows_may_come() {
        let begun = Instant::now();
        let mut cleaning = Cleaning::new(begun);
        let mut at = |seconds, snapshot: &str, rests: Option<u64>| {
            let rests = rests.map(|rests| begun + Duration::from_secs(rests));
            cleaning.due(begun + Duration::from_secs(seconds), snapshot, rests)
        };
        assert_eq!(at(29, "0", None), None);
        assert_eq!(at(30, "1", None), None);
        assert_eq!(at(59, "x", None), None);
        assert_eq!(at(60, "2", None), None);
        assert_eq!(at(90, "3", None), Some("1".into()));
        assert_eq!(at(119, "x", Some(100)), None);
        assert_eq!(at(120, "4", Some(100)), Some("2".into()));
        assert_eq!(at(700, "5", Some(100)), None, "nobody has added rows for long");
    }
}
