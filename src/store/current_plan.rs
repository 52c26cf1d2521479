//! The plan of a mapping as it stands now. It is replaced as a whole when the schema has changed, and whoever has taken
//! it goes on with the one that it has. A mapping that the schema does not fit has no plan, and says why; so
//! has one whose tables could not be looked at yet, because somebody has locked them. Where there is a plan, it stays
//! until another one can be made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::catalog::requirements::ColumnFault;
use super::plan_log::{say_state, say_untold};
use super::schema::{Difference, Fingerprint};
use super::{Plan, Store, StoreError};
use crate::mapping::Mapping;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::MappingMetrics;
use crate::telemetry::planted::is_planted_once;

/// After an error that a new plan did not cure, the next one is made so much later at the earliest.
const FUTILE: Duration = Duration::from_secs(1);

/// A mapping's plan, or why it has none.
#[derive(Debug)]
pub(super) enum State {
    Ready(Arc<Plan>),
    Faulty(Vec<ColumnFault>),
    /// There was no plan yet, and none could be made: a table is locked, say.
    Unplanned(String),
}

/// What the store has said of a mapping.
struct Judgement {
    state: State,
    fingerprint: Fingerprint,
    /// The triggers that are missing, as `table (trigger)`; or why that could not be asked.
    missing: Result<Vec<String>, StoreError>,
}

impl Judgement {
    /// Of a mapping whose tables could not be looked at, for this reason.
    fn postponed(why: &StoreError) -> Self {
        let (fingerprint, missing) = (Fingerprint::default(), Ok(Vec::new()));
        Self { state: State::Unplanned(why.to_string()), fingerprint, missing }
    }
}

/// A mapping and its plan.
#[derive(Debug)]
pub struct CurrentPlan {
    mapping: Mapping,
    state: ArcSwap<State>,
    /// True when the store reports every change of the mapping's tables.
    is_watched: AtomicBool,
    /// The schema as it was when the plan was made.
    fingerprint: Mutex<Fingerprint>,
    /// The last moment of which it is known that the schema was that one: a [`Tick`].
    fitted_at: AtomicU64,
    /// Plans are made one at a time; when one was made because of an error, and was no other than before.
    turn: tokio::sync::Mutex<Option<Instant>>,
    metrics: Arc<MappingMetrics>,
}

impl CurrentPlan {
    /// Makes the plan of a mapping.
    ///
    /// # Errors
    /// The store's, when it does not answer. A schema that does not fit is no error, nor is a table that is locked.
    pub async fn of(store: &Store, mapping: &Mapping, metrics: Arc<MappingMetrics>) -> Result<Self, StoreError> {
        let begun = Tick::now();
        let judged = match judge(store, mapping).await {
            Err(error) if error.is_passing() => Judgement::postponed(&error),
            other => other?,
        };
        let Judgement { state, mut fingerprint, missing } = judged;
        let missing = match missing {
            Err(error) if error.is_passing() => {
                // So that it is asked again.
                fingerprint = Fingerprint::default();
                vec![error.to_string()]
            }
            missing => missing?,
        };
        say_untold(mapping, store.feed(), true, &missing);
        let current = Self { is_watched: AtomicBool::new(missing.is_empty()), ..Self::new(mapping, state, metrics) };
        *current.seen() = fingerprint;
        current.fitted(begun);
        Ok(current)
    }

    /// Takes over the plan that another edition has for the same mapping, where none could be made now.
    pub fn keep(&self, old: &Self) {
        let (State::Unplanned(_), State::Ready(plan)) = (&**self.state.load(), &**old.state.load()) else { return };
        let plan = Plan { mapping: self.mapping.clone(), ..Plan::clone(plan) };
        self.state.store(Arc::new(State::Ready(Arc::new(plan))));
        self.is_watched.store(old.is_watched(), SeqCst);
        // Of the schema as it was then: what has changed since is seen by the next look.
        let seen = old.seen().clone();
        *self.seen() = seen;
    }

    /// A plan that was made without the store.
    #[must_use]
    pub fn made(plan: Plan, metrics: Arc<MappingMetrics>) -> Self {
        Self::new(&plan.mapping.clone(), State::Ready(Arc::new(plan)), metrics)
    }

    fn new(mapping: &Mapping, state: State, metrics: Arc<MappingMetrics>) -> Self {
        Self {
            mapping: mapping.clone(),
            state: ArcSwap::from_pointee(state),
            is_watched: AtomicBool::new(false),
            fingerprint: Mutex::default(),
            fitted_at: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// The mapping.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Its plan, to be kept for one request, write, transaction or flush.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] while the schema does not fit it, [`StoreError::Overloaded`] while it could not be looked
    /// at.
    pub fn plan(&self) -> Result<Arc<Plan>, StoreError> {
        match &**self.state.load() {
            State::Ready(plan) => Ok(plan.clone()),
            State::Faulty(faults) => Err(StoreError::Faulty(texts(faults))),
            State::Unplanned(why) => Err(StoreError::Overloaded(format!(
                "the mapping's tables could not be looked at yet, which is tried again every few seconds: {why}"
            ))),
        }
    }

    /// What does not fit: a key of the mapping's block, and what is wrong. Empty while that is not known to be so.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        match &**self.state.load() {
            State::Ready(_) | State::Unplanned(_) => Vec::new(),
            State::Faulty(faults) => faults.clone(),
        }
    }

    /// What keeps its deferred writes from being saved: a key of the mapping's block, and what is wrong.
    #[must_use]
    pub fn unsavable(&self) -> Vec<(&'static str, String)> {
        self.plan().map(|plan| plan.unsavable().to_vec()).unwrap_or_default()
    }

    /// What keeps it from being written: a key of the mapping's block, and what is wrong.
    #[must_use]
    pub fn unwritable(&self) -> Vec<(&'static str, String)> {
        self.plan().map(|plan| plan.unwritable().to_vec()).unwrap_or_default()
    }

    /// True when the store reports every change of its tables.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(SeqCst)
    }

    /// Logs what does not fit, or is not certain, when the mapping begins to be served.
    pub fn announce(&self) {
        say_state(&self.mapping, None, &self.state.load());
    }

    /// Shows in the metrics whether it has a plan.
    pub fn show(&self) {
        let (name, plan) = (self.mapping.pattern.text(), self.plan());
        self.metrics.set_up(name, plan.is_ok());
        if self.mapping.config.is_written() {
            self.metrics.set_writable(name, plan.is_ok_and(|plan| plan.unwritable().is_empty()));
        }
    }

    /// How the schema differs from the one for which the plan was made. One that does not fit always does, and one in
    /// which something cannot be written or saved: what is missing may be something of which no fingerprint is taken.
    #[must_use]
    pub fn compare(&self, now: &Fingerprint) -> Difference {
        match &**self.state.load() {
            State::Faulty(_) | State::Unplanned(_) => Difference::Schema,
            State::Ready(plan) if !(plan.unsavable().is_empty() && plan.unwritable().is_empty()) => Difference::Schema,
            State::Ready(_) => self.seen().compare(now),
        }
    }

    /// The schema was the plan's at `moment`.
    pub fn fitted(&self, moment: Tick) {
        self.fitted_at.fetch_max(moment.as_ms(), SeqCst);
    }

    /// True when the schema is known to have been the plan's at some moment of the last `most` milliseconds before
    /// `now`.
    #[must_use]
    pub fn has_fitted_within(&self, most: u64, now: Tick) -> bool {
        now.since(Tick::from_ms(self.fitted_at.load(SeqCst))) <= most
    }

    /// The table's storage is another one, and its schema the same.
    pub fn saw(&self, now: Fingerprint) {
        *self.seen() = now;
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Fingerprint> {
        self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while it is being made.
    #[must_use]
    pub fn is_being_made(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// Makes the plan again. When it was replaced, because the schema or the triggers have changed, `forget` forgets
    /// what was kept by the plan before.
    ///
    /// # Errors
    /// The store's, when it does not answer; the plan stays.
    pub async fn replan(&self, store: &Store, forget: impl FnOnce()) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let replaced = self.replace(store, forget).await;
        if replaced.is_err() {
            // Whoever asked may know of something that no fingerprint shows: it is looked at again.
            *self.seen() = Fingerprint::default();
        }
        replaced.map(drop)
    }

    /// The same after the store has said that the statements of `failed` do not fit its schema. Those who meet the
    /// error at once make one plan. False where it was looked at a moment ago, and another attempt is not worth while.
    ///
    /// # Errors
    /// The store's, when it does not answer; the plan stays.
    pub async fn replan_after(
        &self,
        store: &Store,
        failed: &Arc<Plan>,
        forget: impl FnOnce(),
    ) -> Result<bool, StoreError> {
        let mut turn = self.turn.lock().await;
        if self.plan().is_ok_and(|plan| !Arc::ptr_eq(&plan, failed)) {
            return Ok(true);
        }
        if turn.is_some_and(|last| last.elapsed() < FUTILE) {
            return Ok(false);
        }
        let is_replaced = self.replace(store, forget).await?;
        if !is_replaced {
            // The same statements help only where they had been prepared for another schema.
            store.retire_connections();
        }
        *turn = (!is_replaced).then(Instant::now);
        Ok(true)
    }

    /// Until everything is done no fingerprint is noted: whatever ends this in a panic, the next look sees a change.
    async fn replace(&self, store: &Store, forget: impl FnOnce()) -> Result<bool, StoreError> {
        let begun = Tick::now();
        let Judgement { state, fingerprint, missing } = judge(store, &self.mapping).await?;
        let missing = missing?;
        let is_same_schema = std::mem::take(&mut *self.seen()) == fingerprint;
        let before = self.state.load_full();
        let is_as_before = match (&*before, &state) {
            (State::Faulty(old), State::Faulty(new)) => old == new,
            (State::Ready(old), State::Ready(new)) => is_same_schema && old.is_like(new),
            _ => false,
        };
        if !is_as_before {
            say_state(&self.mapping, Some(&before), &state);
            self.state.store(Arc::new(state));
            // Statements that were prepared for the plan before may take other parameters.
            store.retire_connections();
            self.metrics.schema_changes.inc();
            self.show();
        }
        let was_watched = self.is_watched.swap(missing.is_empty(), SeqCst);
        say_untold(&self.mapping, store.feed(), was_watched, &missing);
        let is_replaced = !is_as_before || was_watched != missing.is_empty();
        if is_replaced {
            assert!(!is_planted_once("panic-in-replanning"), "a planted bug");
            forget();
        }
        self.saw(fingerprint);
        self.fitted(begun);
        Ok(is_replaced)
    }
}

pub(super) fn texts(faults: &[ColumnFault]) -> String {
    StoreError::Faults(faults.to_vec()).to_string()
}

/// What the store says of a mapping now. The fingerprint is taken first: a change that comes meanwhile is seen later.
async fn judge(store: &Store, mapping: &Mapping) -> Result<Judgement, StoreError> {
    let fingerprint = store.fingerprints(&[mapping]).await?.pop().unwrap_or_default();
    let state = match store.plan(mapping).await {
        Ok(plan) => match store.read_fault(&plan).await? {
            Some(fault) => State::Faulty(vec![fault]),
            None => State::Ready(Arc::new(Plan { unwritable: store.unwritable(&plan).await?, ..plan })),
        },
        Err(StoreError::Faults(faults)) => State::Faulty(faults),
        // What else is wrong may pass: it says nothing of the schema.
        Err(error) => return Err(error),
    };
    let missing = match store.missing_triggers(mapping).await {
        // Of a table that is not there no triggers are missing, which is said elsewhere.
        _ if matches!(state, State::Faulty(_)) => Ok(Vec::new()),
        missing => missing,
    };
    Ok(Judgement { state, fingerprint, missing })
}
