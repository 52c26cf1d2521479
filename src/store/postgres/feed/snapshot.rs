//! Which transactions a statement of now would see. Pure.

/// As `pg_current_snapshot()` gives it.
/// Source: <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT>
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The first number that is not given yet, or whose transaction is not over.
    end: u64,
    /// Those before that are not over.
    pub(super) running: Vec<u64>,
}

impl Snapshot {
    /// Reads `xmin:xmax:running,running`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (_, end, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|number| !number.is_empty());
        Some(Self { end: end.parse().ok()?, running: running.map(str::parse).collect::<Result<_, _>>().ok()? })
    }

    /// Whether it sees a transaction that has committed, by the low half of its number.
    pub(super) fn sees(&self, low: u32) -> bool {
        let number = self.whole(low);
        number < self.end && !self.running.contains(&number)
    }

    /// Whether whatever was over by an earlier one is over by this one, too.
    pub(super) fn covers(&self, earlier: &Self) -> bool {
        let was_running = |number: &u64| *number >= earlier.end || earlier.running.contains(number);
        earlier.end <= self.end && self.running.iter().all(was_running)
    }

    pub(super) fn is_over(&self, number: u64) -> bool {
        number < self.end && !self.running.contains(&number)
    }

    /// The number with this low half that is nearest: all that are under way lie within 2^31.
    fn whole(&self, low: u32) -> u64 {
        let ahead = low.wrapping_sub(self.end as u32).cast_signed();
        self.end.wrapping_add_signed(i64::from(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;

    #[test]
    fn what_runs_or_is_to_come_is_not_seen() {
        let snapshot = Snapshot::read("10:20:10,14").expect("a snapshot");
        let seen: Vec<u32> = (8..22).filter(|number| snapshot.sees(*number)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert!(snapshot.is_over(9) && !snapshot.is_over(14) && !snapshot.is_over(20));
        let calm = Snapshot::read("20:20:").expect("a snapshot");
        assert!(calm.running.is_empty() && calm.sees(19) && !calm.sees(20));
        assert!(Snapshot::read("nonsense").is_none() && Snapshot::read("1:2:x").is_none());
    }

    #[test]
    fn what_an_earlier_one_saw_is_covered_unless_it_still_runs_here() {
        let read = |text| Snapshot::read(text).expect("a snapshot");
        let now = read("12:30:12,25");
        for (earlier, is_covered) in
            [("10:20:10,12", true), ("12:30:12,25", true), ("20:20:", false), ("12:31:12", false)]
        {
            assert_eq!(now.covers(&read(earlier)), is_covered, "{earlier}");
        }
    }

    #[test]
    fn the_low_half_of_a_number_begins_again() {
        let snapshot = Snapshot::read("4294967290:4294967300:4294967295,4294967297").expect("a snapshot");
        assert!(snapshot.sees(u32::MAX - 1) && !snapshot.sees(u32::MAX));
        assert!(snapshot.sees(0) && !snapshot.sees(1) && snapshot.sees(2) && !snapshot.sees(4));
    }
}
