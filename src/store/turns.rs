//! Turns: how many statements may be under way at once, and whose is next. Knows no connection.
//!
//! Invariants:
//! - a mapping that has a turn gets another only while more than the reserve are free: however long its statements
//!   take, those of others find a turn;
//! - mappings for which somebody waits have their turns one after the other, and those who wait for one mapping are
//!   served in the order they came;
//! - who gives up while waiting takes no turn along.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Some turns, shared by mappings.
#[derive(Debug)]
pub(super) struct Turns {
    /// So many are kept for mappings that have none.
    reserve: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    shares: HashMap<Arc<str>, Share>,
    /// The mappings for which somebody waits, the next one first.
    round: VecDeque<Arc<str>>,
}

/// What one mapping has.
#[derive(Debug, Default)]
struct Share {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to have a statement under way. Dropped, it goes to the next.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    mapping: Arc<str>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(&self.mapping);
    }
}

impl Turns {
    /// So many turns. A quarter of them, and one at least, is kept for mappings that have none; a single turn is
    /// everybody's.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let reserve = if count > 1 { (count / 4).max(1) } else { 0 };
        let queue = Queue { free: count, shares: HashMap::new(), round: VecDeque::new() };
        Arc::new(Self { reserve, queue: Mutex::new(queue) })
    }

    /// Waits for a turn of a mapping.
    pub(super) async fn take(self: &Arc<Self>, mapping: &Arc<str>) -> Turn {
        loop {
            match self.take_or_wait(mapping) {
                Ok(turn) => return turn,
                Err(granted) => {
                    if let Ok(turn) = granted.await {
                        return turn;
                    }
                }
            }
        }
    }

    fn turn(self: &Arc<Self>, mapping: &Arc<str>) -> Turn {
        Turn { turns: self.clone(), mapping: mapping.clone() }
    }

    fn take_or_wait(self: &Arc<Self>, mapping: &Arc<str>) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut guard = self.queue();
        let queue = &mut *guard;
        let share = queue.shares.entry(mapping.clone()).or_default();
        share.forget_those_who_left();
        if share.waiting.is_empty() && self.may_take(queue.free, share.held) {
            share.held += 1;
            queue.free -= 1;
            return Ok(self.turn(mapping));
        }
        let (sender, granted) = oneshot::channel();
        share.waiting.push_back(sender);
        if !queue.round.contains(mapping) {
            queue.round.push_back(mapping.clone());
        }
        Err(granted)
    }

    const fn may_take(&self, free: usize, held: usize) -> bool {
        free > if held == 0 { 0 } else { self.reserve }
    }

    fn give_back(self: &Arc<Self>, mapping: &Arc<str>) {
        let mut next = Vec::new();
        {
            let mut queue = self.queue();
            queue.free += 1;
            if let Some(share) = queue.shares.get_mut(mapping) {
                share.held -= 1;
            }
            while let Some(one) = self.next(&mut queue) {
                next.push(one);
            }
        }
        for (mapping, waiter) in next {
            // Whoever has left just now: the turn is dropped, and goes to the next.
            drop(waiter.send(self.turn(&mapping)));
        }
    }

    /// Takes a turn for the next who waits and may have one.
    fn next(&self, queue: &mut Queue) -> Option<(Arc<str>, oneshot::Sender<Turn>)> {
        for _ in 0..queue.round.len() {
            let mapping = queue.round.pop_front()?;
            let Some(share) = queue.shares.get_mut(&mapping) else { continue };
            share.forget_those_who_left();
            let next = if self.may_take(queue.free, share.held) { share.waiting.pop_front() } else { None };
            if !share.waiting.is_empty() {
                queue.round.push_back(mapping.clone());
            }
            if let Some(waiter) = next {
                share.held += 1;
                queue.free -= 1;
                return Some((mapping, waiter));
            }
        }
        None
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Those in front have waited longest.
    fn forget_those_who_left(&mut self) {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot::Receiver;

    use super::{Turn, Turns};

    /// Turns, and takers of them.
    struct Table(Arc<Turns>);

    impl Table {
        fn of(count: usize) -> Self {
            Self(Turns::new(count))
        }

        fn ask(&self, mapping: &str) -> Result<Turn, Receiver<Turn>> {
            self.0.take_or_wait(&mapping.into())
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
        let (turns, mapping) = (table.0.clone(), Arc::from("b"));
        let waiting = tokio::spawn(async move { turns.take(&mapping).await });
        tokio::task::yield_now().await;
        drop(turn);
        drop(waiting.await.expect("taken"));
        assert_eq!(table.free(), 1);
    }
}
