//! What all clients know of the storm: whether a master is missing, and what was wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// A command that was refused, and when.
struct Refusal {
    at: Instant,
    is_write: bool,
    text: String,
}

/// From when to when a master was missing.
type Gap = (Instant, Option<Instant>);

#[derive(Default)]
pub struct Weather {
    is_over: AtomicBool,
    /// Odd while writes that are acknowledged may be lost by Redis itself.
    age: AtomicU64,
    gaps: Mutex<Vec<Gap>>,
    refusals: Mutex<Vec<Refusal>>,
    wrong: Mutex<Vec<String>>,
    /// Requests that were answered with what they asked for.
    answered: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
}

impl Weather {
    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    pub fn is_over_now(&self) {
        self.is_over.store(true, SeqCst);
    }

    /// What is acknowledged while this lasts may be lost by Redis itself.
    pub fn losing<T>(&self, act: impl FnOnce() -> T) -> T {
        self.age.fetch_add(1, SeqCst);
        let done = act();
        self.age.fetch_add(1, SeqCst);
        done
    }

    /// While this lasts, a master is missing.
    pub fn gap<T>(&self, act: impl FnOnce() -> T) -> T {
        self.gaps.lock().expect("a lock").push((Instant::now(), None));
        let done = act();
        let mut gaps = self.gaps.lock().expect("a lock");
        gaps.last_mut().expect("begun").1 = Some(Instant::now());
        done
    }

    /// Whether a master was missing at this moment, or within a second after it.
    pub fn is_soon_missing(&self, at: Instant) -> bool {
        let soon = at + Duration::from_secs(1);
        let gaps = self.gaps.lock().expect("a lock");
        gaps.iter().any(|(from, to)| *from <= soon && to.is_none_or(|to| at <= to))
    }

    pub fn age(&self) -> u64 {
        self.age.load(SeqCst)
    }

    /// Whether Redis itself may have lost what was acknowledged at this age.
    pub fn may_have_lost(&self, age: u64) -> bool {
        age % 2 == 1 || self.age() != age
    }

    pub fn refused(&self, is_write: bool, text: &str) {
        let refusal = Refusal { at: Instant::now(), is_write, text: without_digits(text) };
        self.refusals.lock().expect("a lock").push(refusal);
    }

    pub fn wrong(&self, what: String) {
        self.wrong.lock().expect("a lock").push(what);
    }

    pub fn is_answered(&self) {
        self.answered.fetch_add(1, SeqCst);
    }

    pub fn is_written(&self) {
        self.written.fetch_add(1, SeqCst);
    }

    pub fn has_lost(&self, count: u64) {
        self.lost.fetch_add(count, SeqCst);
    }

    /// Acknowledged writes, and those of them that were lost.
    pub fn losses(&self) -> (u64, u64) {
        (self.written.load(SeqCst), self.lost.load(SeqCst))
    }

    /// Waits until so many requests more are answered.
    pub fn go_on(&self, more: u64) {
        let (goal, begun) = (self.answered.load(SeqCst) + more, Instant::now());
        while self.answered.load(SeqCst) < goal {
            assert!(begun.elapsed() < Duration::from_secs(60), "clients are not served: {:?}", self.seen());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What was refused, by its text.
    pub fn seen(&self) -> BTreeMap<(bool, String), usize> {
        let mut seen = BTreeMap::new();
        for refusal in self.refusals.lock().expect("a lock").iter() {
            *seen.entry((refusal.is_write, refusal.text.clone())).or_default() += 1;
        }
        seen
    }

    /// No reply was wrong, reads failed only while a master was missing, or within this time after it, and what was
    /// refused says what became of it by one of these texts.
    pub fn judge(&self, patience: Duration, marks: &[&str]) {
        let gaps = self.gaps.lock().expect("a lock");
        let is_in_gap =
            |at: Instant| gaps.iter().any(|(from, to)| at >= *from && to.is_none_or(|to| at <= to + patience));
        let mut wrong = self.wrong.lock().expect("a lock").clone();
        for refusal in self.refusals.lock().expect("a lock").iter() {
            if !refusal.is_write && !is_in_gap(refusal.at) {
                wrong.push(format!("a read failed while all masters were there: {}", refusal.text));
            }
            if !marks.iter().any(|mark| refusal.text.contains(mark)) {
                wrong.push(format!("nothing says what became of it: {}", refusal.text));
            }
        }
        let mut kinds: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for what in wrong {
            kinds.entry(without_digits(&what)).or_insert((0, what)).0 += 1;
        }
        assert!(kinds.is_empty(), "wrong, and how often: {:#?}", kinds.values());
    }
}

/// What errors of one kind have in common.
fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}
