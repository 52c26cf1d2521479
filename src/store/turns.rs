//! Turns: how many statements may be under way at once, and whose is next. Knows no connection.
//!
//! Invariants:
//! - a mapping that has a turn gets another only while more than the reserve are free: however long its statements
//!   take, those of others find a turn;
//! - a turn that several mappings are asked for at once counts for each of them, and is taken in one step: whoever
//!   waits for one of them holds nothing of the others;
//! - those for whom somebody waits have their turns one after the other, and who waits for the same mappings is served
//!   in the order they came;
//! - who gives up while waiting takes no turn along.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::telemetry::metrics::TurnsMetric;

/// Some turns, shared by mappings.
#[derive(Debug)]
pub(super) struct Turns {
    count: usize,
    /// So many are kept for mappings that have none.
    reserve: usize,
    metric: OnceLock<TurnsMetric>,
    queue: Mutex<Queue>,
}

/// The mappings that one turn concerns, in the order of their names.
pub(super) type Concerned = Arc<[Arc<str>]>;

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The turns that each mapping has a part in.
    held: HashMap<Arc<str>, usize>,
    waiting: HashMap<Concerned, Line>,
    /// Those for whom somebody waits, the next one first.
    round: VecDeque<Concerned>,
}

/// Who waits for a turn of the same mappings; those in front have waited longest.
type Line = VecDeque<oneshot::Sender<Turn>>;

/// The right to have a statement under way. Dropped, it goes to the next.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    concerned: Concerned,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(&self.concerned);
    }
}

/// Somebody who waits for a turn, until it comes or is not wanted any more.
struct Waiting<'m> {
    metric: &'m TurnsMetric,
    begun: Instant,
}

impl<'m> Waiting<'m> {
    fn begin(metric: &'m TurnsMetric) -> Self {
        metric.waiting.inc();
        Self { metric, begun: Instant::now() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metric.waiting.dec();
        self.metric.wait_seconds.observe(self.begun.elapsed().as_micros() as u64, 1);
    }
}

impl Turns {
    /// So many turns. A quarter of them, and one at least, is kept for mappings that have none; a single turn is
    /// everybody's.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let reserve = if count > 1 { (count / 4).max(1) } else { 0 };
        let queue = Queue { free: count, held: HashMap::new(), waiting: HashMap::new(), round: VecDeque::new() };
        Arc::new(Self { count, reserve, metric: OnceLock::new(), queue: Mutex::new(queue) })
    }

    /// Shows from now on how many are used and waited for.
    pub(super) fn count_with(&self, metric: TurnsMetric) {
        metric.most.set(self.count as i64);
        self.metric.get_or_init(|| metric);
    }

    /// Waits for a turn that concerns these mappings.
    pub(super) async fn take(self: &Arc<Self>, concerned: &Concerned) -> Turn {
        let mut waiting = None;
        loop {
            match self.take_or_wait(concerned) {
                Ok(turn) => {
                    if let (None, Some(metric)) = (&waiting, self.metric.get()) {
                        metric.wait_seconds.observe(0, 1);
                    }
                    return turn;
                }
                Err(granted) => {
                    if waiting.is_none() {
                        waiting = self.metric.get().map(Waiting::begin);
                    }
                    if let Ok(turn) = granted.await {
                        return turn;
                    }
                }
            }
        }
    }

    /// Shows how many turns are taken.
    fn show(&self, queue: &Queue) {
        if let Some(metric) = self.metric.get() {
            metric.used.set(self.count as i64 - queue.free as i64);
        }
    }

    fn turn(self: &Arc<Self>, concerned: &Concerned) -> Turn {
        Turn { turns: self.clone(), concerned: concerned.clone() }
    }

    fn take_or_wait(self: &Arc<Self>, concerned: &Concerned) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut queue = self.queue();
        if !queue.has_line(concerned) && queue.may_take(self.reserve, concerned) {
            queue.count(concerned);
            self.show(&queue);
            return Ok(self.turn(concerned));
        }
        let (sender, granted) = oneshot::channel();
        queue.waiting.entry(concerned.clone()).or_default().push_back(sender);
        if !queue.round.contains(concerned) {
            queue.round.push_back(concerned.clone());
        }
        Err(granted)
    }

    fn give_back(self: &Arc<Self>, concerned: &Concerned) {
        let mut next = Vec::new();
        {
            let mut queue = self.queue();
            queue.uncount(concerned);
            while let Some(one) = queue.next(self.reserve) {
                next.push(one);
            }
            self.show(&queue);
        }
        for (concerned, waiter) in next {
            // Whoever has left just now: the turn is dropped, and goes to the next.
            drop(waiter.send(self.turn(&concerned)));
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn may_take(&self, reserve: usize, concerned: &Concerned) -> bool {
        let has_some = concerned.iter().any(|mapping| self.held.get(mapping).is_some_and(|held| *held > 0));
        self.free > if has_some { reserve } else { 0 }
    }

    /// A turn is taken.
    fn count(&mut self, concerned: &Concerned) {
        self.free -= 1;
        for mapping in concerned.iter() {
            *self.held.entry(mapping.clone()).or_default() += 1;
        }
    }

    /// A turn has ended.
    fn uncount(&mut self, concerned: &Concerned) {
        self.free += 1;
        for mapping in concerned.iter() {
            if let Some(held) = self.held.get_mut(mapping) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(mapping);
                }
            }
        }
    }

    /// True when somebody waits for the same; who has left waits no more.
    fn has_line(&mut self, concerned: &Concerned) -> bool {
        self.waiting.get_mut(concerned).is_some_and(|line| {
            forget_those_who_left(line);
            !line.is_empty()
        })
    }

    /// Takes a turn for the next who waits and may have one.
    fn next(&mut self, reserve: usize) -> Option<(Concerned, oneshot::Sender<Turn>)> {
        for _ in 0..self.round.len() {
            let concerned = self.round.pop_front()?;
            let (has_line, may_take) = (self.has_line(&concerned), self.may_take(reserve, &concerned));
            let next = self.waiting.get_mut(&concerned).filter(|_| has_line && may_take).and_then(Line::pop_front);
            if self.has_line(&concerned) {
                self.round.push_back(concerned.clone());
            } else {
                self.waiting.remove(&concerned);
            }
            if let Some(waiter) = next {
                self.count(&concerned);
                return Some((concerned, waiter));
            }
        }
        None
    }
}

fn forget_those_who_left(line: &mut Line) {
    while line.front().is_some_and(oneshot::Sender::is_closed) {
        line.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot::Receiver;

    use super::{Concerned, Turn, Turns};

    fn concerned(mappings: &[&str]) -> Concerned {
        mappings.iter().map(|&mapping| Arc::from(mapping)).collect()
    }

    /// Turns, and takers of them.
    struct Table(Arc<Turns>);

    impl Table {
        fn of(count: usize) -> Self {
            Self(Turns::new(count))
        }

        fn ask(&self, mapping: &str) -> Result<Turn, Receiver<Turn>> {
            self.ask_all(&[mapping])
        }

        fn ask_all(&self, mappings: &[&str]) -> Result<Turn, Receiver<Turn>> {
            self.0.take_or_wait(&concerned(mappings))
        }

        /// As many as a mapping gets at once.
        fn all(&self, mapping: &str) -> Vec<Turn> {
            std::iter::from_fn(|| self.ask(mapping).ok()).collect()
        }

        fn free(&self) -> usize {
            self.0.queue().free
        }
    }

    #[test]
    fn a_mapping_that_gives_nothing_back_leaves_turns_for_others() {
        for (count, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (100, 75)] {
            let table = Table::of(count);
            let stuck = table.all("stuck");
            assert_eq!(stuck.len(), most, "of {count}");
            assert_eq!(table.ask("other").is_ok(), count > 1, "of {count}");
        }
        let table = Table::of(8);
        let (stuck, also) = (table.all("a"), table.all("b"));
        assert_eq!((stuck.len(), also.len()), (6, 1));
        assert!(table.ask("c").is_ok(), "the last one is for whoever has none");
    }

    #[test]
    fn mappings_have_their_turns_one_after_the_other() {
        let table = Table::of(1);
        let turn = table.ask("a").expect("free");
        let [mut a1, mut a2, mut b1, mut c1] = ["a", "a", "b", "c"].map(|m| table.ask(m).expect_err("taken"));
        drop(turn);
        for next in [&mut a1, &mut b1, &mut c1, &mut a2] {
            drop(next.try_recv().expect("its turn"));
        }
        assert_eq!(table.free(), 1);
    }

    #[test]
    fn a_turn_of_several_mappings_counts_for_each_and_waits_for_all() {
        let table = Table::of(4);
        let mut stuck: Vec<Turn> =
            ["a", "c", "d"].map(|with| table.ask_all(&[with, "stuck"]).expect("free")).into_iter().collect();
        let mut more = table.ask_all(&["e", "stuck"]).expect_err("it has all that it may have");
        let other = table.ask("e").expect("who waits holds nothing of another mapping");
        assert!(table.ask("a").is_err(), "each of them has one");
        drop(other);
        assert!(more.try_recv().is_err());
        stuck.pop();
        assert!(more.try_recv().is_ok());
        let table = Table::of(1);
        drop(table.ask_all(&["a", "b"]).expect("one turn is enough for several"));
        assert_eq!((table.free(), table.0.queue().waiting.len()), (1, 0));
        assert!(table.0.queue().held.is_empty(), "nothing is remembered of who has none");
    }

    #[test]
    fn who_leaves_takes_no_turn_along() {
        let table = Table::of(1);
        let turn = table.ask("a").expect("free");
        let (left, mut stays) = (table.ask("a").expect_err("taken"), table.ask("a").expect_err("taken"));
        drop(left);
        drop(turn);
        let turn = stays.try_recv().expect("its turn");
        let granted = table.ask("b").expect_err("taken");
        drop(turn);
        drop(granted);
        assert_eq!(table.free(), 1, "one that was granted and not taken is free again");
        assert!(table.ask("a").is_ok());
    }

    #[tokio::test]
    async fn a_turn_that_comes_free_is_taken() {
        let table = Table::of(1);
        let turn = table.ask("a").expect("free");
        let (turns, mapping) = (table.0.clone(), concerned(&["b"]));
        let waiting = tokio::spawn(async move { turns.take(&mapping).await });
        tokio::task::yield_now().await;
        drop(turn);
        drop(waiting.await.expect("taken"));
        assert_eq!(table.free(), 1);
    }
}
