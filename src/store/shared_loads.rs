//! Keys of one mapping that are wanted at the same moment, and are read by one statement: in which order, and how many
//! go together. Sends nothing, and knows no engine.
//!
//! Invariants:
//! - the keys of a mapping stand in one line, in the order in which they were wanted;
//! - while a line is not empty one task leads it, and takes keys from its front only;
//! - a leader that is dropped takes its line along: nobody waits for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::bulkhead::no_turn;
use super::row::Row;
use super::{Plan, StoreError};

/// The most keys of one statement.
const MOST: usize = 256;

/// The lines of all mappings.
#[derive(Debug, Default)]
pub(super) struct SharedLoads {
    lines: Mutex<HashMap<Arc<str>, KeyLine>>,
}

#[derive(Debug)]
struct KeyLine {
    wanted: VecDeque<Wanted>,
    is_led: bool,
    /// So many keys go by one statement.
    most: usize,
    /// When keys were last taken from it.
    taken_at: Option<Instant>,
}

impl Default for KeyLine {
    fn default() -> Self {
        Self { wanted: VecDeque::new(), is_led: false, most: MOST, taken_at: None }
    }
}

/// What a key's load waits for.
pub(super) type Answer = oneshot::Receiver<Result<Vec<Row>, StoreError>>;

/// A key that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) plan: Arc<Plan>,
    pub(super) key: Bytes,
    since: Instant,
    /// It goes by a statement of its own.
    is_alone: bool,
    answer: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

impl Wanted {
    pub(super) fn new(plan: &Arc<Plan>, key: &Bytes) -> (Self, Answer) {
        let (answer, waiting) = oneshot::channel();
        let is_alone = !plan.reads_several();
        (Self { plan: plan.clone(), key: key.clone(), since: Instant::now(), is_alone, answer }, waiting)
    }

    pub(super) fn answer(self, rows: Result<Vec<Row>, StoreError>) {
        // Whoever has left needs no answer.
        drop(self.answer.send(rows));
    }

    /// The same key, to be read by a statement of its own: it begins to wait for that now.
    pub(super) fn alone(self) -> Self {
        Self { is_alone: true, since: Instant::now(), ..self }
    }

    fn has_left(&self) -> bool {
        self.answer.is_closed()
    }

    fn goes_with(&self, first: &Self) -> bool {
        !self.is_alone && !first.is_alone && Arc::ptr_eq(&self.plan, &first.plan)
    }
}

/// The right, and the duty, to have the keys of one line read.
#[derive(Debug)]
pub(super) struct Lead {
    shared_loads: Arc<SharedLoads>,
    mapping: Arc<str>,
    is_over: bool,
}

impl SharedLoads {
    fn lines(&self) -> MutexGuard<'_, HashMap<Arc<str>, KeyLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts keys of one mapping at the end of its line. Where nobody leads it, the caller has to.
    pub(super) fn join(self: &Arc<Self>, wanted: Vec<Wanted>) -> Option<Lead> {
        let plan = wanted.first()?.plan.clone();
        self.enter(&plan, |line| line.wanted.extend(wanted))
    }

    /// The same for keys to which a statement has not come, at the front, where they stood before.
    pub(super) fn join_again(self: &Arc<Self>, wanted: Vec<Wanted>) -> Option<Lead> {
        let plan = wanted.first()?.plan.clone();
        self.enter(&plan, |line| wanted.into_iter().rev().for_each(|wanted| line.wanted.push_front(wanted)))
    }

    fn enter(self: &Arc<Self>, plan: &Plan, join: impl FnOnce(&mut KeyLine)) -> Option<Lead> {
        let name = plan.mapping.pattern.text();
        let mut lines = self.lines();
        if !lines.contains_key(name) {
            lines.insert(name.into(), KeyLine::default());
        }
        let mapping = lines.get_key_value(name)?.0.clone();
        let line = lines.get_mut(&mapping)?;
        join(line);
        let leads = !std::mem::replace(&mut line.is_led, true);
        leads.then(|| Lead { shared_loads: self.clone(), mapping, is_over: false })
    }

    /// Notes to how many of its keys a statement of this plan has come in time.
    pub(super) fn came_to(&self, plan: &Plan, count: usize, of: usize) {
        if let Some(line) = self.lines().get_mut(plan.mapping.pattern.text()) {
            line.most = if count < of { count.max(1) } else { (line.most * 2).min(MOST) };
        }
    }
}

impl Lead {
    /// The plan of the key that is next. Who is in front and has waited for longer than `patience` is refused. Where
    /// nobody waits any more, nobody leads the line from then on.
    pub(super) fn next(&mut self, patience: Duration) -> Option<Arc<Plan>> {
        let shared_loads = self.shared_loads.clone();
        let mut lines = shared_loads.lines();
        let line = lines.get_mut(&self.mapping)?;
        // Those in front have waited longest. However long the line is, nobody goes through all of it.
        while line.wanted.front().is_some_and(|first| first.has_left() || first.since.elapsed() > patience)
            && let Some(late) = line.wanted.pop_front()
        {
            late.answer(Err(no_turn()));
        }
        self.is_over = line.wanted.is_empty();
        line.is_led = !self.is_over;
        line.wanted.front().map(|wanted| wanted.plan.clone())
    }

    /// Takes the keys that go by one statement: the first one of the line, and those behind it that go with it.
    pub(super) fn take(&self) -> Vec<Wanted> {
        let mut lines = self.shared_loads.lines();
        let Some(line) = lines.get_mut(&self.mapping) else { return Vec::new() };
        line.taken_at = Some(Instant::now());
        let mut keys: Vec<Wanted> = Vec::new();
        while keys.len() < line.most
            && line.wanted.front().is_some_and(|next| keys.first().is_none_or(|first| next.goes_with(first)))
            && let Some(next) = line.wanted.pop_front()
        {
            keys.extend(Some(next).filter(|next| !next.has_left()));
        }
        keys
    }

    /// How long the next statement has still to wait, so that it begins `pause` after the one before it. A key that
    /// goes alone does not wait: another statement was for it already.
    pub(super) fn rest(&self, pause: Duration) -> Duration {
        let lines = self.shared_loads.lines();
        let Some(line) = lines.get(&self.mapping) else { return Duration::ZERO };
        let goes_alone = line.wanted.front().is_none_or(|wanted| wanted.is_alone);
        let since = line.taken_at.filter(|_| !goes_alone).map(|at| at.elapsed());
        since.map_or(Duration::ZERO, |since| pause.saturating_sub(since))
    }

    /// How many keys wait.
    pub(super) fn count(&self) -> usize {
        self.shared_loads.lines().get(&self.mapping).map_or(0, |line| line.wanted.len())
    }

    /// Answers all who wait with an error.
    pub(super) fn refuse(&self, error: &StoreError) {
        let mut lines = self.shared_loads.lines();
        refuse(lines.get_mut(&self.mapping).map(|line| std::mem::take(&mut line.wanted)).unwrap_or_default(), error);
    }
}

fn refuse(wanted: VecDeque<Wanted>, error: &StoreError) {
    wanted.into_iter().for_each(|wanted| wanted.answer(Err(error.clone())));
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(line) = self.shared_loads.lines().get_mut(&self.mapping) {
            line.is_led = false;
            line.wanted.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::{Answer, Lead, MOST, SharedLoads, Wanted};
    use crate::config::{Config, Faults, read};
    use crate::mapping::Mappings;
    use crate::store::StoreError;
    use crate::store::plan::{KeySource, Plan};

    fn plan(several: &str) -> Arc<Plan> {
        let block = "[[caches]]\nkey = \"a:{id}\"\ntype = \"hash\"\ntable = \"a\"\n";
        let config: Config = read("test", block, std::iter::empty()).config;
        let mappings = Mappings::compile(&config, &mut Faults::default()).list;
        Arc::new(Plan { several: several.into(), ..Plan::new(&mappings[0], KeySource::Extra) })
    }

    fn joined(shared: &Arc<SharedLoads>, plan: &Arc<Plan>, count: usize) -> (Option<Lead>, Vec<Answer>) {
        let (wanted, answers): (Vec<_>, Vec<_>) =
            (0..count).map(|i| Wanted::new(plan, &Bytes::from(format!("a:{i}")))).unzip();
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
        assert_eq!(keys(lead.take()), ["a:0", "a:1", "a:2"]);
        assert!(lead.next(Duration::MAX).is_some_and(|next| Arc::ptr_eq(&next, &other)));
        assert_eq!(lead.take().len(), 1);
        assert!(lead.next(Duration::MAX).is_none());
        assert!(joined(&shared, &plan, 1).0.is_some(), "nobody leads any more");
    }

    #[test]
    fn one_that_is_to_go_alone_does() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, 3);
        let lead = lead.expect("nobody leads");
        let again = lead.take().into_iter().map(Wanted::alone).collect();
        assert!(shared.join(again).is_none());
        let _others = joined(&shared, &plan, 2);
        assert_eq!([lead.take().len(), lead.take().len(), lead.take().len(), lead.take().len()], [1, 1, 1, 2]);
        let (lead, _answers) = joined(&Arc::new(SharedLoads::default()), &self::plan(""), 2);
        assert_eq!(lead.expect("nobody leads").take().len(), 1, "there is no statement for several");
    }

    #[test]
    fn the_next_statement_takes_as_many_keys_as_the_last_one_came_to() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, MOST * 2);
        let lead = lead.expect("nobody leads");
        let mut first = lead.take();
        assert_eq!(first.len(), MOST);
        let not_reached = first.split_off(3);
        shared.came_to(&plan, 3, MOST);
        assert!(shared.join_again(not_reached).is_none(), "somebody leads");
        let next = lead.take();
        assert_eq!(next.iter().map(|wanted| &*wanted.key).collect::<Vec<_>>(), [b"a:3", b"a:4", b"a:5"]);
        shared.came_to(&plan, 0, 3);
        assert_eq!(lead.take().len(), 1);
        (0..20).for_each(|_| shared.came_to(&plan, 1, 1));
        assert_eq!(lead.take().len(), MOST);
    }

    #[test]
    fn a_long_line_is_not_gone_through_for_every_statement() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan(""));
        let (lead, _answers) = joined(&shared, &plan, 40_000);
        let (mut lead, began, mut count) = (lead.expect("nobody leads"), Instant::now(), 0);
        while lead.next(Duration::MAX).is_some() {
            count += lead.take().len();
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
