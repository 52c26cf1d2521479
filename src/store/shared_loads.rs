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

use super::row::Row;
use super::{Plan, StoreError};

/// The most keys of one statement.
const MOST: usize = 256;

/// The keys of a mapping whose last statement took longer than this go by half as many: what a key that takes long
/// costs the others is small then, and the round trips that they share count for little.
const LONG: Duration = Duration::from_millis(250);

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
}

impl Default for KeyLine {
    fn default() -> Self {
        Self { wanted: VecDeque::new(), is_led: false, most: MOST }
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

    /// The same key, to be read by a statement of its own.
    pub(super) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
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
    pub(super) fn join(self: &Arc<Self>, wanted: impl IntoIterator<Item = Wanted>) -> Option<Lead> {
        let mut wanted = wanted.into_iter().peekable();
        let name = wanted.peek()?.plan.mapping.pattern.text().to_owned();
        let mut lines = self.lines();
        if !lines.contains_key(&*name) {
            lines.insert(name.as_str().into(), KeyLine::default());
        }
        let (mapping, _) = lines.get_key_value(&*name)?;
        let mapping = mapping.clone();
        let line = lines.get_mut(&mapping)?;
        line.wanted.extend(wanted);
        let leads = !std::mem::replace(&mut line.is_led, true);
        leads.then(|| Lead { shared_loads: self.clone(), mapping, is_over: false })
    }

    /// Notes how long a statement took that read keys of a mapping.
    pub(super) fn took(&self, plan: &Plan, time: Duration) {
        if let Some(line) = self.lines().get_mut(plan.mapping.pattern.text()) {
            line.most = if time > LONG { (line.most / 2).max(1) } else { (line.most * 2).min(MOST) };
        }
    }
}

impl Lead {
    /// The plan of the key that is next. Where nobody waits any more, nobody leads the line from then on.
    pub(super) fn next(&mut self) -> Option<Arc<Plan>> {
        let shared_loads = self.shared_loads.clone();
        let mut lines = shared_loads.lines();
        let line = lines.get_mut(&self.mapping)?;
        line.wanted.retain(|wanted| !wanted.answer.is_closed());
        self.is_over = line.wanted.is_empty();
        line.is_led = !self.is_over;
        line.wanted.front().map(|wanted| wanted.plan.clone())
    }

    /// Takes the keys that go by one statement: the first one of the line, and those behind it that go with it.
    pub(super) fn take(&self) -> Vec<Wanted> {
        let mut lines = self.shared_loads.lines();
        let Some(line) = lines.get_mut(&self.mapping) else { return Vec::new() };
        let Some(first) = line.wanted.front() else { return Vec::new() };
        let together = line.wanted.iter().skip(1).take(line.most - 1).take_while(|wanted| wanted.goes_with(first));
        let count = 1 + together.count();
        line.wanted.drain(..count).collect()
    }

    /// Answers those with an error who have waited since `began` or longer; all of them if that is `None`.
    pub(super) fn refuse(&self, began: Option<Instant>, error: &StoreError) {
        let mut lines = self.shared_loads.lines();
        let Some(line) = lines.get_mut(&self.mapping) else { return };
        let has_waited = |wanted: &Wanted| began.is_none_or(|began| wanted.since <= began);
        let (refused, wait) = line.wanted.drain(..).partition::<Vec<_>, _>(has_waited);
        line.wanted.extend(wait);
        refused.into_iter().for_each(|wanted| wanted.answer(Err(error.clone())));
    }
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

    use super::{Answer, LONG, Lead, MOST, SharedLoads, Wanted};
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
        assert!(lead.next().is_some_and(|next| Arc::ptr_eq(&next, &other)));
        assert_eq!(lead.take().len(), 1);
        assert!(lead.next().is_none());
        assert!(joined(&shared, &plan, 1).0.is_some(), "nobody leads any more");
    }

    #[test]
    fn one_that_is_to_go_alone_does() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, 3);
        let lead = lead.expect("nobody leads");
        let again = lead.take().into_iter().map(Wanted::alone);
        assert!(shared.join(again).is_none());
        let _others = joined(&shared, &plan, 2);
        assert_eq!([lead.take().len(), lead.take().len(), lead.take().len(), lead.take().len()], [1, 1, 1, 2]);
        let (lead, _answers) = joined(&Arc::new(SharedLoads::default()), &self::plan(""), 2);
        assert_eq!(lead.expect("nobody leads").take().len(), 1, "there is no statement for several");
    }

    #[test]
    fn statements_that_take_long_read_fewer_keys() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, _answers) = joined(&shared, &plan, MOST * 2);
        let lead = lead.expect("nobody leads");
        assert_eq!(lead.take().len(), MOST);
        shared.took(&plan, LONG * 2);
        assert_eq!(lead.take().len(), MOST / 2);
        (0..20).for_each(|_| shared.took(&plan, LONG * 2));
        assert_eq!(lead.take().len(), 1);
        (0..20).for_each(|_| shared.took(&plan, Duration::ZERO));
        assert_eq!(lead.take().len(), MOST / 2 - 1);
    }

    #[tokio::test]
    async fn whoever_has_waited_long_enough_is_refused_and_a_dropped_leader_refuses_all() {
        let (shared, plan) = (Arc::new(SharedLoads::default()), plan("SELECT"));
        let (lead, early) = joined(&shared, &plan, 1);
        let began = Instant::now();
        let (_, late) = joined(&shared, &plan, 1);
        let mut lead = lead.expect("nobody leads");
        lead.refuse(Some(began), &StoreError::Conflict);
        assert!(lead.next().is_some());
        for answer in early {
            assert_eq!(answer.await.expect("an answer"), Err(StoreError::Conflict));
        }
        drop(lead);
        for answer in late {
            assert!(answer.await.is_err());
        }
        assert!(joined(&shared, &plan, 1).0.is_some(), "nobody leads any more");
    }
}
