//! Keeps the failures of one mapping from the others: each has a circuit breaker of its own and its share of the turns,
//! and each statement a deadline (decision 0021). Knows no engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::moves::{Moves, Stay};
use super::turns::{Concerned, Turn, Turns};
use super::{Plan, StoreError};
use crate::config;
use crate::telemetry::metrics::StoreMetrics;

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The load of one key.
    Load,
    /// The write of one key.
    Write,
    /// A transaction, or a statement that writes many keys.
    Batch,
    /// A statement that reads many keys.
    Listing,
}

/// How long after the deadlines that the server and the driver keep themselves a statement counts as unanswered.
const GRACE: Duration = Duration::from_secs(1);

const LEFT: &str = "the store has become another server meanwhile";

const SILENT: &str = "no answer within store.query_timeout";

/// The turns at one store, and its mappings.
#[derive(Debug)]
pub(super) struct Bulkhead {
    settings: config::Store,
    /// Of loads and writes in Postgres, of what reads in SQLite.
    first: Arc<Turns>,
    /// Of everything else.
    second: Arc<Turns>,
    moves: Moves,
    mappings: Mutex<HashMap<Arc<str>, Arc<Compartment>>>,
}

/// What belongs to one mapping.
#[derive(Debug)]
struct Compartment {
    name: Arc<str>,
    /// It, and no other.
    alone: Concerned,
    breaker: Breaker,
}

impl Compartment {
    fn note<T>(&self, result: &Result<T, StoreError>) {
        self.breaker.note(&self.name, result.as_ref().err());
    }
}

/// A statement, or transaction, whose turn it is.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Those of the mappings that it concerns, in the order of their names.
    compartments: Vec<Arc<Compartment>>,
    deadline: Duration,
    /// At the server that the store was when the turn came.
    stay: Stay,
    _turn: Turn,
}

impl Bulkhead {
    /// That of the store with these settings. SQLite has one connection that writes.
    pub(super) fn new(settings: &config::Store, moves: Moves) -> Self {
        let most = settings.max_connections as usize;
        let second = if is_sqlite(settings) { 1 } else { most };
        let (first, second) = (Turns::new(most), Turns::new(second));
        Self { settings: settings.clone(), first, second, moves, mappings: Mutex::default() }
    }

    /// Shows from now on how many statements are under way and wait.
    pub(super) fn count_with(&self, metrics: &StoreMetrics) {
        self.first.count_with(metrics.pool("loads"));
        self.second.count_with(metrics.pool("batches"));
    }

    fn turns(&self, work: Work) -> &Arc<Turns> {
        match (work, is_sqlite(&self.settings)) {
            (Work::Load, _) | (Work::Write, false) | (Work::Listing, true) => &self.first,
            (Work::Batch, _) | (Work::Write, true) | (Work::Listing, false) => &self.second,
        }
    }

    fn compartment(&self, plan: &Plan) -> Arc<Compartment> {
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        let name = plan.mapping.pattern.text();
        if let Some(known) = mappings.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        let (alone, breaker) = (Arc::from([name.clone()]), Breaker::new(&self.settings));
        let new = Arc::new(Compartment { name: name.clone(), alone, breaker });
        mappings.entry(name).or_insert(new).clone()
    }

    /// Forgets a mapping that is not in force.
    pub(super) fn forget(&self, plan: &Plan) {
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        drop(mappings.remove(plan.mapping.pattern.text()));
    }

    /// Waits for a turn of a mapping.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when it does not come in time.
    pub(super) async fn turn(&self, plan: &Plan, work: Work) -> Result<Turn, StoreError> {
        self.turn_of(&self.compartment(plan).alone, work).await
    }

    async fn turn_of(&self, concerned: &Concerned, work: Work) -> Result<Turn, StoreError> {
        self.within_patience(self.turns(work).take(concerned)).await
    }

    /// Waits for something else for as long as for a turn.
    ///
    /// # Errors
    /// As [`Bulkhead::turn`].
    pub(super) async fn within_patience<T>(&self, waiting: impl Future<Output = T>) -> Result<T, StoreError> {
        tokio::time::timeout(self.settings.queue_timeout, waiting).await.map_err(|_| no_turn())
    }

    /// The same for statements of which silence counts against their mapping. One turn is enough for a transaction over
    /// several mappings, and counts for each of them.
    ///
    /// # Errors
    /// [`StoreError::Open`] at once while the breaker of one of the mappings is open.
    pub(super) async fn admit(&self, plans: &[&Plan], work: Work) -> Result<Admitted, StoreError> {
        let mut compartments: Vec<_> = plans.iter().map(|plan| self.compartment(plan)).collect();
        compartments.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        compartments.dedup_by(|a, b| a.name == b.name);
        let checked = compartments.iter().map(|compartment| compartment.breaker.check());
        let are_probes: Vec<bool> = checked.collect::<Result<_, _>>()?;
        let concerned = match &compartments[..] {
            [one] => one.alone.clone(),
            several => several.iter().map(|compartment| compartment.name.clone()).collect(),
        };
        let turn = self.turn_of(&concerned, work).await?;
        let mut checked = compartments.iter().zip(are_probes);
        if checked.any(|(compartment, is_probe)| !is_probe && compartment.breaker.is_open()) {
            return Err(StoreError::Open);
        }
        let deadline = self.settings.connect_timeout + self.settings.query_timeout + GRACE;
        Ok(Admitted { compartments, deadline, stay: self.moves.stay(), _turn: turn })
    }

    /// What something gives that has no deadline and can be done again, unless its server is left before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it is left, and its own.
    pub(super) async fn unless_left<T>(
        &self,
        doing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = self.moves.stay().unless_left(Box::pin(doing)).await;
        done.unwrap_or_else(|| Err(StoreError::Unavailable(LEFT.into())))
    }

    /// Runs one statement in its turn. What becomes of one without an answer, `silence` says.
    ///
    /// # Errors
    /// As [`Bulkhead::admit`], and the statement's.
    pub(super) async fn run<T>(
        &self,
        plan: &Plan,
        work: Work,
        silence: fn(String) -> StoreError,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.admit(&[plan], work).await?.run(plan, silence, statement).await
    }
}

impl Admitted {
    /// Runs a statement of one of the mappings within its deadline, and notes how it went for that one alone.
    ///
    /// # Errors
    /// The statement's; `silence` where it has no answer.
    pub(super) async fn run<T>(
        &self,
        plan: &Plan,
        silence: fn(String) -> StoreError,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = self.within_deadline(silence, statement).await;
        let name = plan.mapping.pattern.text();
        let its_own = self.compartments.iter().find(|compartment| &*compartment.name == name);
        its_own.into_iter().for_each(|compartment| compartment.note(&result));
        result
    }

    /// Begins or ends a transaction within its deadline. Silence counts against every mapping; an answer says nothing
    /// of their tables.
    ///
    /// # Errors
    /// As [`Admitted::run`].
    pub(super) async fn run_for_all<T>(
        &self,
        silence: fn(String) -> StoreError,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = self.within_deadline(silence, statement).await;
        if result.is_err() {
            self.compartments.iter().for_each(|compartment| compartment.note(&result));
        }
        result
    }

    async fn within_deadline<T>(
        &self,
        silence: fn(String) -> StoreError,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // A statement is large, and each future around it has it once more.
        let statement = Box::pin(statement);
        let ended = tokio::time::timeout(self.deadline, self.stay.unless_left(statement)).await;
        match ended {
            Ok(Some(result)) => result,
            Ok(None) => Err(silence(LEFT.into())),
            Err(_) => Err(silence(SILENT.into())),
        }
    }
}

/// The error of who has waited for a turn for too long.
pub(super) fn no_turn() -> StoreError {
    let why = "no turn within store.queue_timeout: the statements of this mapping that are under way take too long, or \
               too many wait (store.max_connections)";
    StoreError::Overloaded(why.into())
}

fn is_sqlite(settings: &config::Store) -> bool {
    settings.url.starts_with("sqlite:")
}

#[cfg(test)]
mod tests {
    use super::{Bulkhead, Work};
    use crate::config::{Config, Faults, Store, read};
    use crate::mapping::Mappings;
    use crate::store::StoreError;
    use crate::store::moves::Moves;
    use crate::store::plan::{KeySource, Plan};

    fn plans(names: [&str; 2]) -> [Plan; 2] {
        let block = |name| format!("[[caches]]\nkey = \"{name}:{{id}}\"\ntype = \"hash\"\ntable = \"{name}\"\n");
        let config: Config = read("test", &names.map(block).concat(), std::iter::empty()).config;
        let mappings = Mappings::compile(&config, &mut Faults::default()).list;
        [0, 1].map(|at| Plan::new(&mappings[at], KeySource::Extra))
    }

    async fn silent() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("no answer".into()))
    }

    #[tokio::test]
    async fn the_silence_of_one_table_is_not_that_of_the_other_in_a_transaction() {
        let settings = Store { breaker_failures: 2, ..Store::default() };
        let (bulkhead, [a, b]) = (Bulkhead::new(&settings, Moves::default()), plans(["a", "b"]));
        for _ in 0..2 {
            let both = bulkhead.admit(&[&b, &a], Work::Batch).await.expect("a turn");
            both.run_for_all(StoreError::Unavailable, async { Ok(()) }).await.expect("it begins");
            assert!(both.run(&b, StoreError::Unavailable, silent()).await.is_err());
        }
        assert!(bulkhead.admit(&[&a], Work::Load).await.is_ok(), "it has not been silent");
        assert_eq!(bulkhead.admit(&[&b], Work::Load).await.err(), Some(StoreError::Open));
        assert_eq!(bulkhead.admit(&[&a, &b], Work::Batch).await.err(), Some(StoreError::Open));
    }
}
