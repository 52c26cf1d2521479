//! Keeps the failures of one mapping from the others: each has a circuit breaker of its own and its share of the turns,
//! and each statement a deadline (decision 0021). Knows no engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::turns::{Turn, Turns};
use super::{Plan, StoreError};
use crate::config;

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

const SILENT: &str = "no answer within store.query_timeout";

/// The turns at one store, and its mappings.
#[derive(Debug)]
pub(super) struct Bulkhead {
    settings: config::Store,
    /// Of loads and writes in Postgres, of what reads in SQLite.
    first: Arc<Turns>,
    /// Of everything else.
    second: Arc<Turns>,
    mappings: Mutex<HashMap<Arc<str>, Arc<Compartment>>>,
}

/// What belongs to one mapping.
#[derive(Debug)]
struct Compartment {
    name: Arc<str>,
    breaker: Breaker,
}

/// A statement, or transaction, whose turn it is.
#[derive(Debug)]
pub(super) struct Admitted {
    compartment: Arc<Compartment>,
    deadline: Duration,
    _turn: Turn,
}

impl Bulkhead {
    /// That of the store with these settings. SQLite has one connection that writes.
    pub(super) fn new(settings: &config::Store) -> Self {
        let most = settings.max_connections as usize;
        let second = if is_sqlite(settings) { 1 } else { most };
        let (first, second) = (Turns::new(most), Turns::new(second));
        Self { settings: settings.clone(), first, second, mappings: Mutex::default() }
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
        let new = Arc::new(Compartment { name: name.clone(), breaker: Breaker::new(&self.settings) });
        mappings.entry(name).or_insert(new).clone()
    }

    /// Waits for a turn of a mapping.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when it does not come in time.
    pub(super) async fn turn(&self, plan: &Plan, work: Work) -> Result<Turn, StoreError> {
        self.turn_of(&self.compartment(plan), work).await
    }

    async fn turn_of(&self, compartment: &Compartment, work: Work) -> Result<Turn, StoreError> {
        let taking = self.turns(work).take(&compartment.name);
        tokio::time::timeout(self.settings.queue_timeout, taking).await.map_err(|_| {
            let why = "no turn within store.queue_timeout: the statements of this mapping that are under way take too \
                       long, or too many wait (store.max_connections)";
            StoreError::Overloaded(why.into())
        })
    }

    /// The same for statements of which silence counts against the mapping.
    ///
    /// # Errors
    /// [`StoreError::Open`] at once while the mapping's breaker is open.
    pub(super) async fn admit(&self, plan: &Plan, work: Work) -> Result<Admitted, StoreError> {
        let compartment = self.compartment(plan);
        let is_probe = compartment.breaker.check()?;
        let turn = self.turn_of(&compartment, work).await?;
        if !is_probe && compartment.breaker.is_open() {
            return Err(StoreError::Open);
        }
        let deadline = self.settings.connect_timeout + self.settings.query_timeout + GRACE;
        Ok(Admitted { compartment, deadline, _turn: turn })
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
        self.admit(plan, work).await?.run(silence, statement).await
    }
}

impl Admitted {
    /// Runs a statement within its deadline, and notes how it went.
    ///
    /// # Errors
    /// The statement's; `silence` where it has no answer.
    pub(super) async fn run<T>(
        &self,
        silence: fn(String) -> StoreError,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let ended = tokio::time::timeout(self.deadline, statement).await;
        let result = ended.unwrap_or_else(|_| Err(silence(SILENT.into())));
        self.compartment.breaker.note(&self.compartment.name, result.as_ref().err());
        result
    }
}

fn is_sqlite(settings: &config::Store) -> bool {
    settings.url.starts_with("sqlite:")
}
