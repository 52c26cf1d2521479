//! Rows that could not be removed, and when each is tried again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::store::RowKey;

/// Most that are remembered of one mapping.
const MOST: usize = 10_000;

/// The pause doubles so often at most.
const MOST_DOUBLINGS: u32 = 6;

/// Those of one mapping.
#[derive(Debug)]
pub(super) struct RestingRows {
    /// How long one rests at first.
    pause: Duration,
    rows: HashMap<RowKey, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    /// How often it could not be removed.
    times: u32,
}

impl RestingRows {
    /// None yet; the first pause is as long as `pause`, each next one twice as long, up to 64 times.
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, rows: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.rows.keys()
    }

    /// Some that have rested, `most` at most.
    pub(super) fn due(&self, most: usize) -> Vec<RowKey> {
        let now = Instant::now();
        let due = self.rows.iter().filter(|(_, rest)| rest.until <= now).take(most);
        due.map(|(row, _)| row.clone()).collect()
    }

    /// A row could not be removed. False where no more can be remembered.
    pub(super) fn rest(&mut self, row: RowKey) -> bool {
        if self.rows.len() >= MOST && !self.rows.contains_key(&row) {
            return false;
        }
        let rest = self.rows.entry(row).or_insert_with(|| Rest { until: Instant::now(), times: 0 });
        rest.until = Instant::now() + self.pause * 2_u32.pow(rest.times.min(MOST_DOUBLINGS));
        rest.times += 1;
        true
    }

    /// These are gone, or have not ended.
    pub(super) fn forget(&mut self, rows: &[RowKey]) {
        for row in rows {
            self.rows.remove(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MOST, RestingRows};

    #[test]
    fn a_row_rests_longer_each_time_up_to_a_bound() {
        let mut resting = RestingRows::new(Duration::from_secs(100));
        let row = || "[\"1\"]".to_owned();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(resting.rest(row()) && resting.due(9).is_empty());
            let left = resting.rows[&row()].until - Instant::now();
            pauses.push(left.as_millis().div_ceil(100_000));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        resting.forget(&[row()]);
        assert_eq!(resting.len(), 0);
    }

    #[test]
    fn rows_that_cannot_be_removed_are_remembered_in_bounded_number() {
        let mut resting = RestingRows::new(Duration::ZERO);
        assert!((0..MOST).all(|row| resting.rest(row.to_string())));
        assert!(!resting.rest("one more".into()) && resting.rest("1".into()));
        assert_eq!((resting.len(), resting.due(3).len()), (10_000, 3));
    }
}
