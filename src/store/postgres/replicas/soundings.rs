//! How far the log of the primary goes, asked now and then: a sounding. Whatever could be seen before a sounding was
//! sent lies before the end that it found. So a standby that has replayed up to there, on the same timeline, has all of
//! that. Soundings have numbers, which rise. Sends nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::clock::Tick;

/// So many are remembered, and the one that a standby was found to have reached last: one whose replay stands still is
/// read as before.
const MOST: usize = 64;

/// Where the log of a server ends, or how far it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the database cluster, which all its copies have.
    pub(super) system: i64,
    pub(super) timeline: i64,
    pub(super) end: i64,
}

/// One that has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sounding {
    pub(super) number: u64,
    /// When it was sent.
    pub(super) sent: Tick,
}

#[derive(Debug, Default)]
struct Answered {
    /// The oldest first.
    latest: VecDeque<(Sounding, Place)>,
    reached: Option<(Sounding, Place)>,
}

#[derive(Debug)]
pub(super) struct Soundings {
    next: AtomicU64,
    answered: Mutex<Answered>,
    wanted: Notify,
}

impl Default for Soundings {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), answered: Mutex::default(), wanted: Notify::new() }
    }
}

impl Soundings {
    fn answered(&self) -> MutexGuard<'_, Answered> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next one to be sent: it finds everything that can be seen now.
    pub(super) fn next(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// One is sent when this has returned.
    pub(super) fn begin(&self) -> Sounding {
        Sounding { number: self.next.fetch_add(1, SeqCst), sent: Tick::now() }
    }

    /// It is answered.
    pub(super) fn end(&self, sounding: Sounding, place: Place) {
        let mut answered = self.answered();
        if answered.latest.len() == MOST {
            answered.latest.pop_front();
        }
        answered.latest.push_back((sounding, place));
    }

    /// The newest that has been answered.
    pub(super) fn newest(&self) -> Option<Sounding> {
        self.answered().latest.back().map(|(sounding, _)| *sounding)
    }

    /// The newest that a standby has reached which has replayed up to here.
    pub(super) fn reached(&self, replayed: Place) -> Option<Sounding> {
        let is_reached = |(_, found): &&(Sounding, Place)| {
            (found.system, found.timeline) == (replayed.system, replayed.timeline) && found.end <= replayed.end
        };
        let mut answered = self.answered();
        let newest = answered.latest.iter().rev().chain(&answered.reached).find(is_reached).copied();
        answered.reached = newest.or(answered.reached);
        newest.map(|(sounding, _)| sounding)
    }

    /// Another one is of use.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until one is.
    pub(super) async fn is_wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Place, Soundings};

    #[test]
    fn what_was_seen_before_is_reached_on_the_same_timeline_only() {
        let soundings = Soundings::default();
        let place = |timeline, end| Place { system: 7, timeline, end };
        let number = |at| soundings.reached(at).map(|sounding| sounding.number);
        assert_eq!((soundings.next(), number(place(1, 100))), (1, None));
        for (timeline, end) in [(1, 100), (1, 120), (2, 110)] {
            let sounding = soundings.begin();
            soundings.end(sounding, place(timeline, end));
        }
        assert_eq!((number(place(1, 99)), number(place(1, 119)), number(place(1, 500))), (None, Some(1), Some(2)));
        assert_eq!((number(place(2, 109)), number(place(2, 110)), number(place(3, 500))), (None, Some(3), None));
        assert_eq!(soundings.reached(Place { system: 8, ..place(2, 500) }), None);
        assert_eq!(soundings.newest().map(|sounding| sounding.number), Some(3));
    }

    #[test]
    fn what_a_standby_has_reached_is_remembered_while_it_stands_still() {
        let soundings = Soundings::default();
        let place = |end| Place { system: 7, timeline: 1, end };
        let sound = |end| soundings.end(soundings.begin(), place(end));
        let number = |end| soundings.reached(place(end)).map(|sounding| sounding.number);
        sound(100);
        assert_eq!(number(100), Some(1));
        (0..2 * MOST as i64).for_each(|more| sound(200 + more));
        assert_eq!((number(100), number(99)), (Some(1), None), "one that is started again may be earlier");
        assert_eq!(number(500), Some(1 + 2 * MOST as u64));
    }
}
