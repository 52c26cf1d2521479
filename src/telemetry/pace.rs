//! So many in a second: a bucket for one who asks, without a lock.

use super::clock::Tick;

/// How fast somebody asks: a bucket that a second's worth of requests fills, and each request empties a little.
/// Source: <https://en.wikipedia.org/wiki/Token_bucket>
#[derive(Debug, Default)]
pub struct Pace {
    /// What is missing of a full bucket, in thousandths of a request.
    spent: u64,
    since: Tick,
}

impl Pace {
    /// Takes one request at `now`; false when that is more than `per_second` allows.
    pub fn take(&mut self, now: Tick, per_second: u32) -> bool {
        let (passed, rate) = (now.since(self.since), u64::from(per_second));
        self.since = now;
        self.spent = self.spent.saturating_sub(passed.saturating_mul(rate));
        let fits = self.spent + 1000 <= rate * 1000;
        if fits {
            self.spend(1);
        }
        fits
    }

    /// What is under way already is missing afterwards, even beyond what is allowed.
    pub const fn spend(&mut self, requests: u64) {
        self.spent += requests * 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use crate::telemetry::clock::Tick;

    #[test]
    fn a_second_holds_so_many_requests() {
        let (mut pace, at) = (Pace::default(), Tick::from_ms);
        let taken = |pace: &mut Pace, now, tries| (0..tries).filter(|_| pace.take(at(now), 10)).count();
        assert_eq!(taken(&mut pace, 5000, 100), 10);
        assert_eq!(taken(&mut pace, 5099, 100), 0);
        assert_eq!(taken(&mut pace, 5100, 100), 1);
        assert_eq!(taken(&mut pace, 5600, 100), 5);
        assert_eq!(taken(&mut pace, 90_000, 100), 10, "no more is saved up");
        assert!(pace.take(at(90_100), 10) && !pace.take(at(90_100), 10));
        let mut pace = Pace::default();
        assert!(pace.take(at(5000), 10), "a transaction is one");
        pace.spend(29);
        assert!(!pace.take(at(7000), 10) && pace.take(at(7100), 10), "and is paid for later");
    }
}
