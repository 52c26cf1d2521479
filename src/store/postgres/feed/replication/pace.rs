//! When it is looked what can be seen: soon after a calm, seldom while much is written, and once more soon where a look
//! has shown nothing. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// After so long without a look there is a calm.
const CALM: Duration = Duration::from_millis(100);

/// So long after a commit has come in a calm: most can be seen by then.
const SOON: Duration = Duration::from_millis(2);

/// So long after a commit has come else, and so far apart: one look is for all that have come by then.
const PACE: Duration = Duration::from_millis(6);

/// So many that show nothing follow soon.
const EAGER: u32 = 2;

/// So many go by at the pace before it slows down: on a busy machine a commit may stand still for a moment.
const STEADY: u32 = 30;

/// While something cannot be seen for longer, and nothing else comes, the next look is after so long at most.
const LONGEST: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pace {
    /// When the last look began.
    begun: Instant,
    /// Looks since one has shown something.
    futile: u32,
    /// When it is to be asked whom that concerns which has come since the last time.
    sorting: Option<Instant>,
}

impl Pace {
    /// A look has begun at `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self { begun: now, futile: 0, sorting: None }
    }

    /// Something has come.
    pub(super) fn came(&mut self, now: Instant) {
        let is_calm = now.duration_since(self.begun) >= CALM;
        self.sorting.get_or_insert(now + if is_calm { SOON } else { PACE });
    }

    /// It has been asked whom it concerns.
    pub(super) const fn sorted(&mut self) {
        self.sorting = None;
    }

    /// A look that began then has been answered.
    pub(super) const fn looked(&mut self, begun: Instant, has_shown: bool) {
        self.begun = begun;
        self.futile = if has_shown { 0 } else { self.futile.saturating_add(1) };
    }

    /// When there is something to do next; `waits` says whether something that concerns somebody could not be seen.
    pub(super) fn due(&self, waits: bool) -> Option<Instant> {
        let again = waits.then(|| self.begun + self.pause());
        self.sorting.into_iter().chain(again).min()
    }

    fn pause(&self) -> Duration {
        match self.futile {
            1..=EAGER => SOON,
            _ => LONGEST.min(PACE.saturating_mul(2_u32.saturating_pow(self.futile.saturating_sub(STEADY)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{CALM, EAGER, LONGEST, PACE, Pace, SOON, STEADY};

    #[test]
    fn what_comes_after_a_calm_is_looked_for_soon_and_else_at_a_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.due(false), None);
        pace.came(start + CALM);
        pace.came(start + CALM + PACE);
        assert_eq!(pace.due(false), Some(start + CALM + SOON), "the first one counts");
        pace.sorted();
        pace.looked(start + CALM, true);
        let next = start + CALM + Duration::from_millis(20);
        pace.came(next);
        assert_eq!(pace.due(false), Some(next + PACE));
        assert_eq!(pace.due(true), Some(start + CALM + PACE), "what could not be seen is not left waiting for that");
    }

    #[test]
    fn what_cannot_be_seen_is_looked_for_again_and_again_and_then_less_often() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut pauses = Vec::new();
        for _ in 0..STEADY + 8 {
            pace.looked(start, false);
            pauses.push(pace.due(true).expect("it waits") - start);
        }
        let (eager, rest) = pauses.split_at(EAGER as usize);
        assert!(eager.iter().all(|pause| *pause == SOON));
        assert!(rest.is_sorted() && rest.first() == Some(&PACE) && rest.last() == Some(&LONGEST));
        pace.looked(start, true);
        assert_eq!(pace.due(true), Some(start + PACE));
    }
}
