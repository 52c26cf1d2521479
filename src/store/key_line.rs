//! One mapping's keys that are wanted, in the order in which they go. Pure but for the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::row::Row;
use super::urgency::Urgency;
use super::{Plan, StoreError};

/// The most keys of one statement.
pub(super) const MOST: usize = 256;

/// After so many statements for keys that somebody waits for, one may go for keys of the background: where statements
/// are kept apart (`store.load_pause`), somebody waits nearly always.
const IN_A_ROW: u32 = 4;

/// The keys that wait.
#[derive(Debug)]
pub(super) struct KeyLine {
    /// Those that somebody waits for.
    urgent: VecDeque<Wanted>,
    /// Those of the background.
    background: VecDeque<Wanted>,
    /// A statement for keys of the background is under way.
    reads_background: bool,
    /// So many statements went for keys that somebody waits for, since the last one of the background.
    in_a_row: u32,
    pub(super) is_led: bool,
    /// So many keys go by one statement.
    pub(super) most: usize,
    /// When keys were last taken from it.
    taken_at: Option<Instant>,
}

impl Default for KeyLine {
    fn default() -> Self {
        let (urgent, background) = Default::default();
        Self { urgent, background, reads_background: false, in_a_row: 0, is_led: false, most: MOST, taken_at: None }
    }
}

impl KeyLine {
    fn queue_of(&mut self, wanted: &Wanted) -> &mut VecDeque<Wanted> {
        if wanted.urgency.is_urgent() { &mut self.urgent } else { &mut self.background }
    }

    pub(super) fn push_back(&mut self, wanted: Wanted) {
        self.queue_of(&wanted).push_back(wanted.comes());
    }

    pub(super) fn push_front(&mut self, wanted: Wanted) {
        self.queue_of(&wanted).push_front(wanted.comes());
    }

    /// How many keys wait.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.background.len()
    }

    /// How long the keys in front have waited: none has for longer.
    pub(super) fn has_waited(&self) -> Duration {
        let fronts = self.urgent.front().into_iter().chain(self.background.front());
        fronts.map(Wanted::has_waited).max().unwrap_or_default()
    }

    /// The next statement is for keys of the background.
    fn is_of_background(&self) -> bool {
        let may_go = !self.reads_background && !self.background.is_empty();
        may_go && (self.urgent.is_empty() || self.in_a_row >= IN_A_ROW)
    }

    /// The queue that the next statement takes keys from; it is empty if there are none that may go.
    fn next(&mut self) -> &mut VecDeque<Wanted> {
        if self.is_of_background() { &mut self.background } else { &mut self.urgent }
    }

    /// The key in front.
    pub(super) fn first(&mut self) -> Option<&Wanted> {
        self.next().front()
    }

    /// Puts those of the background for which somebody waits now to the others.
    pub(super) fn hasten(&mut self) {
        let (raised, background) = self.background.drain(..).partition(|wanted| wanted.urgency.is_urgent());
        self.background = background;
        self.urgent.extend::<VecDeque<_>>(raised);
    }

    /// Takes from the front who has left, or has waited for longer than `patience`. Those in front have waited longest:
    /// however long the line is, nobody goes through all of it.
    pub(super) fn take_late(&mut self, patience: Duration) -> Vec<Wanted> {
        let is_late = |first: &Wanted| first.has_left() || first.has_waited() > patience;
        let mut late = Vec::new();
        for queue in [&mut self.urgent, &mut self.background] {
            while let Some(first) = queue.pop_front_if(|first| is_late(first)) {
                late.push(first);
            }
        }
        late
    }

    /// Takes the keys that go by one statement: the first one, and those behind it that go with it. True where they are
    /// of the background, of which no others go before [`KeyLine::background_is_read`].
    pub(super) fn take(&mut self) -> (Vec<Wanted>, bool) {
        let (most, is_of_background) = (self.most, self.is_of_background());
        let mut keys: Vec<Wanted> = Vec::new();
        let queue = self.next();
        while keys.len() < most
            && let Some(next) = queue.pop_front_if(|next| keys.first().is_none_or(|first| next.goes_with(first)))
        {
            keys.extend(Some(next.leaves()).filter(|next| !next.has_left()));
        }
        self.taken_at = Some(Instant::now());
        self.in_a_row = if is_of_background { 0 } else { self.in_a_row.saturating_add(1) };
        let are_of_background = is_of_background && !keys.is_empty();
        self.reads_background |= are_of_background;
        (keys, are_of_background)
    }

    /// The statement for keys of the background has ended.
    pub(super) const fn background_is_read(&mut self) {
        self.reads_background = false;
    }

    /// How long the next statement has still to wait, so that it begins `pause` after the one before it. A key that
    /// goes alone does not wait: another statement was for it already.
    pub(super) fn rest(&mut self, pause: Duration) -> Duration {
        let goes_alone = self.first().is_none_or(|wanted| wanted.is_alone);
        let since = self.taken_at.filter(|_| !goes_alone).map(|at| at.elapsed());
        since.map_or(Duration::ZERO, |since| pause.saturating_sub(since))
    }

    pub(super) fn take_all(&mut self) -> Vec<Wanted> {
        self.urgent.drain(..).chain(self.background.drain(..)).collect()
    }
}

/// What a key's load waits for.
pub(super) type Answer = oneshot::Receiver<Result<Vec<Row>, StoreError>>;

/// A key that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) plan: Arc<Plan>,
    pub(super) key: Bytes,
    /// When it came to the line, for the last time.
    since: Instant,
    /// How long it had stood there before.
    waited: Duration,
    pub(super) urgency: Arc<Urgency>,
    /// It goes by a statement of its own.
    is_alone: bool,
    answer: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

impl Wanted {
    pub(super) fn new(plan: &Arc<Plan>, key: &Bytes, urgency: &Arc<Urgency>) -> (Self, Answer) {
        let (answer, waiting) = oneshot::channel();
        let is_alone = !plan.reads_several();
        let (plan, key, urgency, since) = (plan.clone(), key.clone(), urgency.clone(), Instant::now());
        (Self { plan, key, since, waited: Duration::ZERO, urgency, is_alone, answer }, waiting)
    }

    pub(super) fn answer(self, rows: Result<Vec<Row>, StoreError>) {
        // Whoever has left needs no answer.
        drop(self.answer.send(rows));
    }

    /// The same key, to be read by a statement of its own.
    pub(super) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// How long it has stood in the line. The time in a statement that did not come to it is none of that.
    pub(super) fn has_waited(&self) -> Duration {
        self.waited + self.since.elapsed()
    }

    /// It leaves the line for a statement.
    fn leaves(self) -> Self {
        Self { waited: self.has_waited(), ..self }
    }

    /// It stands in the line from now on.
    fn comes(self) -> Self {
        Self { since: Instant::now(), ..self }
    }

    fn has_left(&self) -> bool {
        self.answer.is_closed()
    }

    fn goes_with(&self, first: &Self) -> bool {
        !self.is_alone && !first.is_alone && Arc::ptr_eq(&self.plan, &first.plan)
    }
}
