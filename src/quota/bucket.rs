//! A token bucket without a lock: one number says when it will be full again, and each token moves that on a little.
//! Source: <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::Rate;
use crate::telemetry::clock::Tick;

/// The clock tells whole milliseconds: what comes within one cannot be told apart.
const TICK: u64 = 1_000_000;
/// What is spent beyond what is there is paid for by so long a silence, at most.
const DEBT: u64 = 60_000_000_000;

/// A bucket that takes longer to be full, some hundred years, is no larger than that.
const DEEPEST: u64 = u64::MAX / 4;

/// Times are nanoseconds of the process's clock.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In what time a token comes; 0: tokens are not counted.
    interval: AtomicU64,
    /// How long an empty bucket takes to be full.
    depth: AtomicU64,
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one that holds `burst` tokens, or what comes in a second; without a rate tokens are not counted.
    pub(super) fn resize(&self, rate: Option<Rate>, burst: Option<u32>) {
        let interval = rate.map_or(0, |rate| nanos(rate.interval()).max(1));
        let burst = burst.or_else(|| rate.map(Rate::in_a_second)).unwrap_or_default();
        // Less than a tick and a token would lose what comes between two looks at the clock.
        let depth = interval.saturating_mul(u64::from(burst)).clamp(interval + TICK, DEEPEST);
        self.depth.store(depth, Relaxed);
        self.full_at.store(0, Relaxed);
        self.interval.store(interval, Relaxed);
    }

    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.interval.load(Relaxed) > 0
    }

    /// Takes a token; false when there is none.
    pub(super) fn take(&self, now: Tick) -> bool {
        let (interval, depth, now) = (self.interval.load(Relaxed), self.depth.load(Relaxed), nanos_of(now));
        let taken = |full_at: u64| full_at.max(now) + interval;
        let fits = |full_at: u64| (taken(full_at) - now <= depth).then(|| taken(full_at));
        interval == 0 || self.full_at.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Takes so many, even if they are not there.
    pub(super) fn spend(&self, now: Tick, count: u64) {
        let (interval, now) = (self.interval.load(Relaxed), nanos_of(now));
        if interval > 0 {
            let most = now + self.depth.load(Relaxed) + DEBT;
            let spent = |full_at: u64| Some(full_at.max(now).saturating_add(count.saturating_mul(interval)).min(most));
            let _always = self.full_at.fetch_update(Relaxed, Relaxed, spent);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn nanos_of(tick: Tick) -> u64 {
    tick.as_ms().saturating_mul(TICK)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::Bucket;
    use crate::config::Rate;
    use crate::telemetry::clock::Tick;

    fn bucket(rate: &str, burst: Option<u32>) -> Bucket {
        let bucket = Bucket::default();
        bucket.resize(Some(read(rate)), burst);
        bucket
    }

    fn read(rate: &str) -> Rate {
        serde_json::from_value(rate.into()).expect("a rate")
    }

    fn taken(bucket: &Bucket, now: u64, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(bucket.take(Tick::from_ms(now)))).sum()
    }

    #[test]
    fn a_burst_is_let_in_and_then_what_the_rate_allows() {
        let ten = bucket("10/s", Some(3));
        assert_eq!(taken(&ten, 5000, 100), 3);
        assert_eq!((taken(&ten, 5099, 100), taken(&ten, 5100, 100)), (0, 1));
        assert_eq!(taken(&ten, 90_000, 100), 3, "no more is saved up");
        assert_eq!(taken(&bucket("10/s", None), 5000, 100), 10, "a second's worth");
        let slow = bucket("6/m", None);
        assert_eq!((taken(&slow, 5, 9), taken(&slow, 10_003, 9), taken(&slow, 10_005, 9)), (1, 0, 1));
    }

    #[test]
    fn what_is_under_way_is_paid_for_later_and_not_for_ever() {
        let bucket = bucket("10/s", None);
        bucket.spend(Tick::from_ms(1000), 15);
        assert_eq!((taken(&bucket, 1500, 9), taken(&bucket, 1600, 9)), (0, 1));
        bucket.spend(Tick::from_ms(2000), 1_000_000);
        assert_eq!((taken(&bucket, 61_900, 9), taken(&bucket, 62_100, 9)), (0, 1));
    }

    #[test]
    fn without_a_rate_everything_is_let_in() {
        let bucket = Bucket::default();
        bucket.spend(Tick::from_ms(1), 1_000_000);
        assert!(taken(&bucket, 1, 1000) == 1000 && !bucket.is_limited());
        bucket.resize(Some(read("1/s")), None);
        assert!(bucket.is_limited() && taken(&bucket, 1, 9) == 1);
        bucket.resize(None, None);
        assert_eq!(taken(&bucket, 1, 9), 9);
    }

    #[test]
    fn threads_take_no_more_together_than_one_could() {
        let (bucket, all) = (Arc::new(bucket("1000/s", Some(500))), Arc::new(AtomicU64::new(0)));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let (bucket, all) = (bucket.clone(), all.clone());
                threads.spawn(move || all.fetch_add(u64::from(taken(&bucket, 7, 1000)), Relaxed));
            }
        });
        assert_eq!(all.load(Relaxed), 500);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In whatever steps time goes on and however often somebody tries: never more than the burst and what came
        /// since, and whoever always tries gets all of that.
        #[test]
        fn no_more_and_no_less_than_the_rate_comes_through(
            count in 1_u32..20_000,
            (unit, length) in prop::sample::select(vec![("s", 1000_u32), ("m", 60_000), ("h", 3_600_000)]),
            burst in 1_u32..1000,
            steps in prop::collection::vec(0_u64..2000, 1..20),
        ) {
            let (rate, per_ms) = (format!("{count}/{unit}"), f64::from(count) / f64::from(length));
            let full = f64::from(burst).max(per_ms + 1.0);
            let (uneven, mut now, mut all) = (bucket(&rate, Some(burst)), 0, 0);
            for step in steps {
                now += step;
                all += taken(&uneven, now, full as u32 * 2);
                // An interval is whole nanoseconds: that is off by one in a thousand at most.
                let came = per_ms * now as f64 * 1.001;
                prop_assert!(f64::from(all) <= full + came + 1.0, "{all} of {full} and {came}");
            }
            let even = bucket(&rate, Some(burst));
            let all = (0..2000).map(|now| taken(&even, now, per_ms as u32 + 2)).sum::<u32>();
            prop_assert!(f64::from(all) >= per_ms * 1999.0 * 0.999 - 1.0, "{all}");
        }
    }
}
