//! Loads definitions at start, and again whenever a reload of one is requested.
//!
//! A reload that fails keeps the last good version and is tried again: what was asked for is not forgotten.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, RwLock, RwLockWriteGuard, Semaphore};

use super::{Definitions, Set};
use crate::keys::MappingId;
use crate::mapping::Mapping;
use crate::record::Table;
use crate::store::file::load_file;
use crate::store::{CurrentPlan, Store, StoreError};
use crate::telemetry::metrics::{DefinitionMetrics, Outcome};
use crate::telemetry::planted::is_planted_once;

/// One definition mapping and its plan; a file has none.
#[derive(Debug)]
pub struct DefinitionSource {
    /// The mapping.
    pub mapping: Mapping,
    /// Its plan, which is replaced when the schema has changed.
    pub plan: Option<CurrentPlan>,
    /// What its file held when it was checked, and when that began: the first load.
    pub checked: Mutex<Option<(Table, Instant)>>,
    /// Its loads run one after the other, so that an older one never replaces a newer one.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl DefinitionSource {
    /// A mapping that is in the store, by this plan.
    #[must_use]
    pub fn planned(mapping: Mapping, plan: CurrentPlan) -> Self {
        Self { mapping, plan: Some(plan), checked: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// A mapping that is a file, which held this when it was checked, from `begun` on.
    #[must_use]
    pub fn file(mapping: Mapping, checked: Table, begun: Instant) -> Self {
        Self { mapping, plan: None, checked: Mutex::new(Some((checked, begun))), turn: tokio::sync::Mutex::default() }
    }
}

/// Loads definitions again when it is asked to.
#[derive(Debug)]
pub struct Reloader {
    pub(super) definitions: Arc<Definitions>,
    sources: Vec<DefinitionSource>,
    store: Arc<Store>,
    pub(super) metrics: Arc<DefinitionMetrics>,
    wanted: Mutex<BTreeSet<MappingId>>,
    /// Mappings that are to be loaded again, or could not be: what is in memory of them is not the last version.
    doubted: Mutex<BTreeSet<MappingId>>,
    /// Mappings that are being loaded because it was asked for, or were when [`Reloader::run`] ended in a panic.
    busy: Mutex<BTreeSet<MappingId>>,
    wake: Notify,
    /// Mappings whose last load failed: that is logged as an error once, not at every attempt.
    failing: Mutex<BTreeSet<MappingId>>,
    /// Mappings that are to be loaded only because a change may have been missed: that is not worth a log line.
    by_the_way: Mutex<BTreeSet<MappingId>>,
    /// As many are loaded at once as the store has turns.
    room: Semaphore,
    /// Held for writing while the place of this reloader is taken: nothing is loaded meanwhile.
    pub(super) place: RwLock<()>,
}

const RETRY: Duration = Duration::from_secs(1);

impl Reloader {
    /// A reloader of these mappings into `definitions`.
    #[must_use]
    pub fn new(
        definitions: Arc<Definitions>,
        sources: Vec<DefinitionSource>,
        store: Arc<Store>,
        metrics: Arc<DefinitionMetrics>,
    ) -> Self {
        let most = store.most_at_once();
        Self {
            definitions,
            sources,
            store,
            metrics,
            wanted: Mutex::default(),
            doubted: Mutex::default(),
            busy: Mutex::default(),
            wake: Notify::new(),
            failing: Mutex::default(),
            by_the_way: Mutex::default(),
            room: Semaphore::new(most),
            place: RwLock::default(),
        }
    }

    /// Asks for a reload of mapping `id`, if it is a definition.
    pub fn request(&self, id: MappingId) {
        self.by_the_way().remove(&id);
        self.wake_for(id);
    }

    fn by_the_way(&self) -> std::sync::MutexGuard<'_, BTreeSet<MappingId>> {
        self.by_the_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_for(&self, id: MappingId) {
        if self.sources.iter().any(|source| source.mapping.id == id) {
            self.doubt(id);
            self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            self.wake.notify_one();
        }
    }

    /// Asks for a reload of all; of files only if `files`, which no store can have changed.
    pub fn request_all(&self, files: bool) {
        for source in self.sources.iter().filter(|source| files || source.plan.is_some()) {
            let id = source.mapping.id;
            if !files && !self.is_wanted(id) {
                self.by_the_way().insert(id);
            }
            self.wake_for(id);
        }
    }

    pub(super) fn sources(&self) -> &[DefinitionSource] {
        &self.sources
    }

    fn doubted(&self) -> std::sync::MutexGuard<'_, BTreeSet<MappingId>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubt(&self, id: MappingId) {
        self.doubted().insert(id);
    }

    pub(super) fn is_doubted(&self, id: MappingId) -> bool {
        self.doubted().contains(&id)
    }

    fn is_wanted(&self, id: MappingId) -> bool {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Serves requests for ever: each mapping for itself, so that one which is slow, or is tried again, holds up no
    /// other.
    pub async fn run(&self) {
        // What was being loaded when this ended in a panic, and what was not loaded since it was asked for.
        let (busy, doubted) = (std::mem::take(&mut *self.busy()), self.doubted().clone());
        busy.union(&doubted).for_each(|id| self.wake_for(*id));
        let mut loading = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                Some(id) = loading.next() => drop(self.busy().remove(&id)),
            }
            self.take_wanted().into_iter().for_each(|source| loading.push(self.serve(source)));
        }
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, BTreeSet<MappingId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked for, but for what is being loaded: that is asked for again when it is done. It is being loaded
    /// from now on.
    fn take_wanted(&self) -> Vec<&DefinitionSource> {
        let (mut wanted, mut busy) = (self.wanted.lock().unwrap_or_else(PoisonError::into_inner), self.busy());
        let ids = self.sources.iter().map(|source| source.mapping.id);
        let due: BTreeSet<MappingId> = ids.filter(|id| !busy.contains(id) && wanted.remove(id)).collect();
        busy.extend(&due);
        self.sources.iter().filter(|source| due.contains(&source.mapping.id)).collect()
    }

    /// Loads one mapping, and asks for it again after a while if that fails.
    async fn serve(&self, source: &DefinitionSource) -> MappingId {
        match self.reload(source).await {
            // It is asked for when the schema fits again.
            Ok(()) | Err(StoreError::Faulty(_)) => {}
            Err(_) => {
                tokio::time::sleep(RETRY).await;
                self.request(source.mapping.id);
            }
        }
        source.mapping.id
    }

    /// Loads every mapping now. One that the schema does not fit keeps its last good version, which is no error here.
    ///
    /// # Errors
    /// One message per mapping that kept its last good version for another reason, with the mapping's pattern.
    pub async fn reload_all(&self) -> Result<(), Vec<String>> {
        self.load_each(|error| !matches!(error, StoreError::Faulty(_))).await
    }

    /// Loads every mapping before the place of another reloader is taken. A table that is locked is the trouble of its
    /// own mapping, which keeps what the other has of it, and is tried again.
    ///
    /// # Errors
    /// As [`Reloader::reload_all`].
    pub async fn load_next(&self) -> Result<(), Vec<String>> {
        let is_its_own = |error: &StoreError| {
            matches!(error, StoreError::Faulty(_) | StoreError::Overloaded(_) | StoreError::Transient(_))
        };
        self.load_each(|error| !is_its_own(error)).await
    }

    /// Loads every mapping for the first time. Keys of one that cannot be loaded are answered with the reason, and it
    /// is tried again.
    ///
    /// # Errors
    /// As [`Reloader::reload_all`], of mappings that are not loaded because the store does not answer. A table that is
    /// locked is the trouble of its own mapping.
    pub async fn load_first(&self) -> Result<(), Vec<String>> {
        self.load_each(|error| error.is_final() && !matches!(error, StoreError::Overloaded(_))).await
    }

    /// Loads every mapping; one message per mapping whose error counts.
    async fn load_each(&self, counts: impl Fn(&StoreError) -> bool) -> Result<(), Vec<String>> {
        let mut failed = Vec::new();
        let loaded = join_all(self.sources.iter().map(|source| self.reload(source))).await;
        for (source, loaded) in self.sources.iter().zip(loaded) {
            match loaded {
                Ok(()) => {}
                Err(error) if counts(&error) => failed.push(format!("{}: {error}", source.mapping.pattern.text())),
                Err(error) => {
                    self.definitions.lacks(source.mapping.id, &error.to_string());
                    self.wake_for(source.mapping.id);
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// The plans of definitions in the store.
    pub fn plans(&self) -> impl Iterator<Item = &CurrentPlan> {
        self.sources.iter().filter_map(|source| source.plan.as_ref())
    }

    /// Makes the plan of mapping `id` again, because the schema has changed or may have, and asks for its definitions.
    ///
    /// # Errors
    /// The store's, when it does not answer.
    pub async fn replan(&self, id: MappingId) -> Result<(), StoreError> {
        let Some(plan) = self.plans().find(|plan| plan.mapping().id == id) else { return Ok(()) };
        plan.replan(&self.store, || self.request(id)).await
    }

    /// Takes the place of `old`, which has the same mappings and no store, and takes over what it has read from files.
    /// Until the guard that is returned is dropped, `old` loads nothing: clients go over one after the other, and all
    /// see the same.
    pub async fn inherit<'o>(&self, old: &'o Self) -> RwLockWriteGuard<'o, ()> {
        let still = old.place.write().await;
        for source in self.files() {
            self.definitions.take(source.mapping.id, &old.definitions, source.mapping.id);
        }
        still
    }

    /// Takes the place of `old`. Files are read once more; what cannot be read is logged, and tried again when the
    /// place has been taken. Until the guard that is returned is dropped, `old` loads nothing, and both show the same
    /// of each mapping that is the same.
    pub async fn overtake<'o>(&self, old: &'o Self) -> RwLockWriteGuard<'o, ()> {
        let still = old.place.write().await;
        for source in self.files() {
            let _stays = self.reload(source).await;
        }
        for source in &self.sources {
            let is_same = |other: &&DefinitionSource| other.mapping.config.is_same(&source.mapping.config);
            if let Some(other) = old.sources.iter().find(is_same) {
                self.agree(source.mapping.id, old, other.mapping.id);
            }
        }
        still
    }

    /// Mapping `id` and the mapping `theirs` of `old`, which are the same, show one version, and no client sees an
    /// older one than before.
    fn agree(&self, id: MappingId, old: &Self, theirs: MappingId) {
        if self.definitions.is_behind(id, &old.definitions, theirs) {
            return old.definitions.take(theirs, &self.definitions, id);
        }
        self.definitions.take(id, &old.definitions, theirs);
        // What came to it here, and has not come to `old`, is in the next load.
        self.doubt(id);
    }

    fn files(&self) -> impl Iterator<Item = &DefinitionSource> {
        self.sources.iter().filter(|source| source.plan.is_none())
    }

    async fn reload(&self, source: &DefinitionSource) -> Result<(), StoreError> {
        let _turn = source.turn.lock().await;
        let _place = self.place.read().await;
        // It is never closed.
        let _room = self.room.acquire().await;
        let mapping = source.mapping.pattern.text();
        // A change that comes from now on doubts it again.
        self.doubted().remove(&source.mapping.id);
        let loaded = self.load(source).await;
        let known_at = self.store.looks();
        self.metrics.reloaded(Outcome::of(&loaded));
        let (records, begun) = loaded.inspect_err(|error| {
            self.doubt(source.mapping.id);
            self.complain(source, error);
        })?;
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&source.mapping.id);
        if self.by_the_way().remove(&source.mapping.id) {
            tracing::debug!(mapping, definitions = records.len(), "definitions loaded again");
        } else {
            tracing::info!(mapping, definitions = records.len(), "definitions loaded");
        }
        self.definitions.swap(source.mapping.id, Set::read(records, begun, known_at));
        self.metrics.definitions.set(self.definitions.count() as i64);
        Ok(())
    }

    fn complain(&self, source: &DefinitionSource, error: &StoreError) {
        if matches!(error, StoreError::Faulty(_)) {
            // Logged when the schema was looked at.
            return;
        }
        let mapping = source.mapping.pattern.text();
        let is_new = self.failing.lock().unwrap_or_else(PoisonError::into_inner).insert(source.mapping.id);
        if is_new {
            tracing::error!(mapping, %error, "definitions could not be loaded; the last good version stays");
        } else {
            tracing::debug!(mapping, %error, "definitions could still not be loaded");
        }
    }

    /// The definitions of a table or query; once more if the plan does not fit the schema any more.
    async fn load_planned(&self, current: &CurrentPlan) -> Result<Table, StoreError> {
        let plan = current.plan()?;
        match self.store.load_all(&plan).await {
            // What is loaded now is by the new plan.
            Err(StoreError::Schema(_)) if current.replan_after(&self.store, &plan, || {}).await? => {
                self.store.load_all(&*current.plan()?).await
            }
            other => other,
        }
    }

    /// The definitions of a mapping, and when they began to be read.
    async fn load(&self, source: &DefinitionSource) -> Result<(Table, Instant), StoreError> {
        let begun = Instant::now();
        let table = match (&source.plan, source.mapping.config.file.clone()) {
            (Some(plan), _) => self.load_planned(plan).await,
            (None, Some(path)) => {
                if let Some(checked) = source.checked.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return Ok(checked);
                }
                assert!(!is_planted_once("panic-in-load"), "a planted bug");
                let mapping = source.mapping.clone();
                let read = tokio::task::spawn_blocking(move || load_file(&mapping, &path));
                read.await.unwrap_or_else(|error| Err(StoreError::Refused(error.to_string())))
            }
            (None, None) => Err(StoreError::Refused("the mapping has no source".into())),
        };
        Ok((table?, begun))
    }
}
