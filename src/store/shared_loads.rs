//! Keys of one mapping that are wanted at the same moment, and are read by one statement: who has them read, and how
//! many go together. Sends nothing, and knows no engine.
//!
//! Invariants:
//! - the keys of a mapping stand in one line, in the order in which they were wanted; those of the background, which
//!   nobody waits for, stand behind the others, go by one statement at a time, and now and then before the others;
//! - while a line has keys that may go one task leads it, and takes keys from its front only;
//! - a leader that is dropped takes its line along: nobody waits for ever, also where a task ends in a panic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bulkhead::no_turn;
use super::key_line::{KeyLine, MOST, Wanted};
use super::{Plan, StoreError};

/// The lines of all mappings.
#[derive(Debug, Default)]
pub(super) struct SharedLoads {
    lines: Mutex<HashMap<Arc<str>, KeyLine>>,
}

/// The right, and the duty, to have the keys of one line read.
#[derive(Debug)]
pub(super) struct Lead {
    shared_loads: Arc<SharedLoads>,
    mapping: Arc<str>,
    is_over: bool,
}

/// Keys that go by one statement.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) keys: Vec<Wanted>,
    /// Where they are of the background.
    pub(super) turn: Option<BackgroundTurn>,
}

/// The turn of one statement for keys of the background. Dropped, another one may go; those who wait for it are
/// refused.
#[derive(Debug)]
pub(super) struct BackgroundTurn {
    shared_loads: Arc<SharedLoads>,
    mapping: Arc<str>,
    is_over: bool,
}

impl BackgroundTurn {
    /// The statement has ended, and another may go.
    pub(super) fn end(mut self) -> Option<Lead> {
        self.is_over = true;
        self.shared_loads.enter(&self.mapping, KeyLine::background_is_read)
    }
}

impl Drop for BackgroundTurn {
    fn drop(&mut self) {
        if !self.is_over {
            drop(self.shared_loads.enter(&self.mapping, KeyLine::background_is_read));
        }
    }
}

impl SharedLoads {
    fn lines(&self) -> MutexGuard<'_, HashMap<Arc<str>, KeyLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts keys of one mapping at the end of its line. Where nobody leads it, the caller has to.
    pub(super) fn join(self: &Arc<Self>, wanted: Vec<Wanted>) -> Option<Lead> {
        let plan = wanted.first()?.plan.clone();
        self.enter(name(&plan), |line| wanted.into_iter().for_each(|wanted| line.push_back(wanted)))
    }

    /// The same for keys to which a statement has not come, at the front, where they stood before.
    pub(super) fn join_again(self: &Arc<Self>, wanted: Vec<Wanted>) -> Option<Lead> {
        let plan = wanted.first()?.plan.clone();
        self.enter(name(&plan), |line| wanted.into_iter().rev().for_each(|wanted| line.push_front(wanted)))
    }

    /// Somebody waits now for keys of the background.
    pub(super) fn hasten(self: &Arc<Self>, plan: &Plan) -> Option<Lead> {
        self.enter(name(plan), KeyLine::hasten)
    }

    fn enter(self: &Arc<Self>, name: &str, join: impl FnOnce(&mut KeyLine)) -> Option<Lead> {
        let mut lines = self.lines();
        if !lines.contains_key(name) {
            lines.insert(name.into(), KeyLine::default());
        }
        let mapping = lines.get_key_value(name)?.0.clone();
        let line = lines.get_mut(&mapping)?;
        join(line);
        if line.is_led || line.first().is_none() {
            return None;
        }
        line.is_led = true;
        Some(Lead { shared_loads: self.clone(), mapping, is_over: false })
    }

    /// Forgets a mapping that is not in force.
    pub(super) fn forget(&self, plan: &Plan) {
        drop(self.lines().remove(name(plan)));
    }

    /// Notes to how many of its keys a statement of this plan has come in time.
    pub(super) fn came_to(&self, plan: &Plan, count: usize, of: usize) {
        if let Some(line) = self.lines().get_mut(name(plan)) {
            line.most = if count < of { count.max(1) } else { (line.most * 2).min(MOST) };
        }
    }

    /// How many keys of this plan's mapping go by the next statement.
    pub(super) fn most(&self, plan: &Plan) -> usize {
        self.lines().get(name(plan)).map_or(MOST, |line| line.most)
    }
}

impl Lead {
    /// What `look` says of the line.
    fn line<T>(&self, look: impl FnOnce(&mut KeyLine) -> T) -> Option<T> {
        self.shared_loads.lines().get_mut(&self.mapping).map(look)
    }

    /// The plan of the key that is next. Who is in front and has waited for longer than `patience` is refused. Where
    /// nobody waits who may go, nobody leads the line from then on.
    pub(super) fn next(&mut self, patience: Duration) -> Option<Arc<Plan>> {
        let (late, next) = self.line(|line| {
            let (late, next) = (line.take_late(patience), line.first().map(|wanted| wanted.plan.clone()));
            line.is_led = next.is_some();
            (late, next)
        })?;
        self.is_over = next.is_none();
        refuse(late, &no_turn());
        next
    }

    /// Takes the keys that go by one statement: the first one of the line, and those behind it that go with it.
    pub(super) fn take(&self) -> Batch {
        let (keys, are_of_background) = self.line(KeyLine::take).unwrap_or_default();
        let (shared_loads, mapping) = (self.shared_loads.clone(), self.mapping.clone());
        let turn = || BackgroundTurn { shared_loads, mapping, is_over: false };
        Batch { keys, turn: are_of_background.then(turn) }
    }

    /// How long the next statement has still to wait, so that it begins `pause` after the one before it.
    pub(super) fn rest(&self, pause: Duration) -> Duration {
        self.line(|line| line.rest(pause)).unwrap_or_default()
    }

    /// How long it takes until the next key has waited for longer than `patience`.
    pub(super) fn until_refusal(&self, patience: Duration) -> Duration {
        patience.saturating_sub(self.line(|line| line.has_waited()).unwrap_or_default())
    }

    /// How many keys wait.
    pub(super) fn count(&self) -> usize {
        self.line(|line| line.len()).unwrap_or_default()
    }

    /// Answers all who wait with an error.
    pub(super) fn refuse(&self, error: &StoreError) {
        refuse(self.line(KeyLine::take_all).unwrap_or_default(), error);
    }
}

/// The mapping whose line a plan's keys stand in.
fn name(plan: &Plan) -> &str {
    plan.mapping.pattern.text()
}

fn refuse(wanted: Vec<Wanted>, error: &StoreError) {
    wanted.into_iter().for_each(|wanted| wanted.answer(Err(error.clone())));
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.line(|line| {
            line.is_led = false;
            line.take_all();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::{Lead, SharedLoads};
    use crate::config::{Config, Faults, read};
    use crate::mapping::Mappings;
    use crate::store::StoreError;
    use crate::store::key_line::{Answer, MOST, Wanted};
    use crate::store::plan::{KeySource, Plan};
    use crate::store::urgency::Urgency;

    fn plan(several: &str) -> Arc<Plan> {
        let block = "[[caches]]\nkey = \"a:{id}\"\ntype = \"hash\"\ntable = \"a\"\n";
        let config: Config = read("test", block, std::iter::empty()).config;
        let mappings = Mappings::compile(&config, &mut Faults::default()).list;
        Arc::new(Plan { several: several.into(), ..Plan::new(&mappings[0], KeySource::Extra) })
    }

    fn joined(shared: &Arc<SharedLoads>, plan: &Arc<Plan>, count: usize) -> (Option<Lead>, Vec<Answer>) {
        joined_as(&Urgency::urgent(), shared, plan, count)
    }

    fn joined_as(
        urgency: &Arc<Urgency>,
        shared: &Arc<SharedLoads>,
        plan: &Arc<Plan>,
        count: usize,
    ) -> (Option<Lead>, Vec<Answer>) {
        let (wanted, answers): (Vec<_>, Vec<_>) =
            (0..count).map(|i| Wanted::new(plan, &Bytes::from(format!("a:{i}")), urgency)).unzip();
        (shared.join(wanted), answers)
    }

    #[test]
    fn keys_of_one_plan_go_together_in_their_order_and_others_behind_them() {
        let (shared, plan, other) = (Arc::new(SharedLoads::default()), plan("SELECT"), plan("SELECT"));
        let (lead, _one) = joined(&shared, &plan, 3);
        let mut lead = lead.expect("nobody leads");
        let (none, _two) = joined(&shared, &other, 1);
        assert!(none.is_none(), "somebody leads");
        let keys = |keys: Vec<Wanted>| keys.into_iter().map(|wanted| wanted.key).collect::<Vec<_>>();
        assert_eq!(keys(lead.take().keys), ["a:0", "a:1", "a:2"]);
        assert!(lead.next(Duration::MAX).is_some_and(|next| Arc::ptr_eq(&next, &other)));
        assert_eq!(lead.take().keys.len(), 1);
        assert!(lead.next(Duration::MAX).is_none());
        assert!(joined(&shared, &plan, 1).0.is_some(), "nobody leads any more");
    }

    #[test]
    fn one_that_is_to_go_alone_does() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, 3);
        let lead = lead.expect("nobody leads");
        let again = lead.take().keys.into_iter().map(Wanted::alone).collect();
        assert!(shared.join(again).is_none());
        let _others = joined(&shared, &plan, 2);
        assert_eq!(
            [lead.take().keys.len(), lead.take().keys.len(), lead.take().keys.len(), lead.take().keys.len()],
            [1, 1, 1, 2]
        );
        let (lead, _answers) = joined(&Arc::new(SharedLoads::default()), &self::plan(""), 2);
        assert_eq!(lead.expect("nobody leads").take().keys.len(), 1, "there is no statement for several");
    }

    #[test]
    fn the_next_statement_takes_as_many_keys_as_the_last_one_came_to() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, MOST * 2);
        let lead = lead.expect("nobody leads");
        let mut first = lead.take().keys;
        assert_eq!(first.len(), MOST);
        let not_reached = first.split_off(3);
        shared.came_to(&plan, 3, MOST);
        assert!(shared.join_again(not_reached).is_none(), "somebody leads");
        let next = lead.take().keys;
        assert_eq!(next.iter().map(|wanted| &*wanted.key).collect::<Vec<_>>(), [b"a:3", b"a:4", b"a:5"]);
        shared.came_to(&plan, 0, 3);
        assert_eq!(lead.take().keys.len(), 1);
        (0..20).for_each(|_| shared.came_to(&plan, 1, 1));
        assert_eq!(lead.take().keys.len(), MOST);
    }

    #[test]
    fn keys_that_nobody_waits_for_go_when_no_other_waits_and_one_statement_at_a_time() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (first, second) = (Urgency::of(false, false), Urgency::of(false, false));
        let (lead, _first) = joined_as(&first, &shared, &plan, 2);
        let mut lead = lead.expect("nobody leads");
        let _urgent = joined(&shared, &plan, 1);
        let (urgent, background) = (lead.take(), lead.take());
        assert_eq!([urgent.keys.len(), background.keys.len()], [1, 2]);
        let _second = joined_as(&second, &shared, &plan, 3);
        assert!(lead.next(Duration::MAX).is_none(), "a statement for such keys is under way");
        assert!(joined_as(&second, &shared, &plan, 1).0.is_none());
        second.raise();
        let lead = shared.hasten(&plan).expect("somebody waits for them now");
        assert_eq!(lead.take().keys.len(), 3, "the last one's load was given up");
        let _third = joined_as(&Urgency::of(false, false), &shared, &plan, 1);
        assert_eq!(lead.take().keys.len(), 0);
        assert!(background.turn.expect("they are of the background").end().is_none(), "somebody leads");
        assert_eq!(lead.take().keys.len(), 1);
    }

    #[test]
    fn keys_that_nobody_waits_for_have_a_statement_now_and_then_where_somebody_waits_always() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _background) = joined_as(&Urgency::of(false, false), &shared, &plan, MOST + 1);
        let lead = lead.expect("nobody leads");
        let mut next = || {
            let _urgent = joined(&shared, &plan, 1);
            lead.take()
        };
        let of_four = |next: &mut dyn FnMut() -> super::Batch| [(); 4].map(|()| next().turn.is_some());
        assert_eq!(of_four(&mut next), [false; 4]);
        let background = next();
        assert_eq!(background.keys.len(), MOST);
        assert_eq!(of_four(&mut next), [false; 4]);
        assert!(next().turn.is_none(), "a statement for such keys is under way");
        drop(background.turn.expect("they are of the background").end());
        assert!(next().turn.is_some());
    }

    #[tokio::test]
    async fn a_statement_for_the_background_that_ends_in_a_panic_keeps_none_of_the_next_waiting() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _first) = joined_as(&Urgency::of(false, false), &shared, &plan, 1);
        let mut lead = lead.expect("nobody leads");
        let batch = lead.take();
        let (_, waits) = joined_as(&Urgency::of(false, false), &shared, &plan, 1);
        assert!(lead.next(Duration::MAX).is_none(), "a statement for such keys is under way");
        let read = async move {
            let _under_way = batch;
            panic!("a bug");
        };
        assert!(tokio::spawn(read).await.is_err());
        for answer in waits {
            assert!(answer.await.is_err(), "it is given up");
        }
        assert!(joined_as(&Urgency::of(false, false), &shared, &plan, 1).0.is_some(), "another may go");
    }

    #[test]
    fn a_long_line_is_not_gone_through_for_every_statement() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan(""));
        let (lead, _answers) = joined(&shared, &plan, 40_000);
        let (mut lead, began, mut count) = (lead.expect("nobody leads"), Instant::now(), 0);
        while lead.next(Duration::MAX).is_some() {
            count += lead.take().keys.len();
        }
        assert_eq!(count, 40_000);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn whoever_has_waited_long_enough_is_refused_and_a_dropped_leader_refuses_all() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, early) = joined(&shared, &plan, 1);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {}
        let patience = began.elapsed();
        let (_, late) = joined(&shared, &plan, 1);
        let mut lead = lead.expect("nobody leads");
        assert!(lead.next(patience).is_some());
        for answer in early {
            assert!(matches!(answer.await.expect("an answer"), Err(StoreError::Overloaded(_))));
        }
        assert_eq!(lead.count(), 1);
        drop(lead);
        for answer in late {
            assert!(answer.await.is_err());
        }
        assert!(joined(&shared, &plan, 1).0.is_some(), "nobody leads any more");
    }
}
