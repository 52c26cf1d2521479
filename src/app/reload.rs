//! SIGHUP: reads the configuration again. Everything that may change while the sidecar runs is changed at once or, if
//! anything is faulty, not at all. Clients stay connected.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::background::{self, Audience};
use super::build::{self, Built};
use super::check::Failure;
use super::doubts::Doubts;
use super::modes::Asked;
use super::near::KeptNear;
use super::reading::Reading;
use super::serving::Serving;
use crate::admin::Readiness;
use crate::cache;
use crate::config::{self, Loaded, MappingConfig, Settings};
use crate::dispatch::{ModeOrder, ModeOrders, Owned};
use crate::mapping::{Mappings, Modes};
use crate::server::Edition;
use crate::telemetry::audit::AuditLine;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::{Audit, Metrics, locked};
use crate::upstream::Topology;

/// So long the store is waited for when mappings are planned again.
const PLANNING: Duration = Duration::from_secs(1);

/// The parts of the sidecar that a reload exchanges.
pub(super) struct Sidecar {
    /// The configuration in force.
    pub(super) reading: Reading,
    /// Its definitions and cache.
    pub(super) owned: Arc<Owned>,
    /// What is to run beside its cache, until it does.
    pub(super) beside: Option<cache::Tasks>,
    /// What runs beside them, as long as they are served.
    pub(super) background: JoinSet<()>,
    /// What is counted as long as the process runs.
    pub(super) metrics: Arc<Metrics>,
    /// What runs as long as the process does.
    pub(super) tasks: JoinSet<()>,
    /// The mappings that changes of the store are applied to.
    pub(super) audience: Arc<Audience>,
    /// What `/readyz` answers, which must know them, too.
    pub(super) readiness: Arc<Readiness>,
    /// The modes of its mappings.
    pub(super) modes: Arc<Modes>,
    /// What is kept of the upstream.
    pub(super) near: KeptNear,
    /// Why what was written could not be brought to the upstream, at the last attempt.
    pub(super) unmirrored: Option<String>,
    /// What is not known of modes that were.
    pub(super) doubts: Doubts,
    /// Where clients ask for other modes, and where that comes.
    orders: (ModeOrders, UnboundedReceiver<ModeOrder>),
}

impl Sidecar {
    /// A sidecar that serves these definitions and this cache. Nothing runs beside them yet.
    pub(super) fn new(
        reading: Reading,
        built: Built,
        readiness: Arc<Readiness>,
        metrics: Arc<Metrics>,
        tasks: JoinSet<()>,
    ) -> Self {
        let (orders, Built { owned, tasks: beside }) = (ModeOrders::channel(), built);
        let audience = Arc::new(Audience::new(orders.0.clone()));
        readiness.takes_orders(orders.0.clone());
        audience.join(owned.clone());
        let modes = Arc::new(Modes::configured(&owned.mappings.list));
        let background = JoinSet::new();
        let beside = Some(beside);
        let (unmirrored, doubts) = (None, Doubts::default());
        let near = KeptNear::new(&reading.config.near, &metrics.near);
        let mut sidecar = Self {
            reading,
            owned,
            beside,
            background,
            metrics,
            tasks,
            audience,
            readiness,
            modes,
            near,
            unmirrored,
            doubts,
            orders,
        };
        sidecar.show_modes();
        sidecar.note_written(&sidecar.owned);
        sidecar
    }

    /// Orders for other modes are refused from now on.
    pub(super) fn hear_no_more(&mut self) {
        self.orders.1.close();
        while self.orders.1.try_recv().is_ok() {}
    }

    /// The next order for other modes.
    pub(super) async fn ordered(&mut self) -> Option<ModeOrder> {
        self.orders.1.recv().await
    }

    /// The edition for clients, over the definitions and cache in force.
    pub(super) fn edition_in(&self, modes: &Arc<Modes>) -> Edition {
        self.edition(&self.owned, modes)
    }

    fn edition(&self, owned: &Arc<Owned>, modes: &Arc<Modes>) -> Edition {
        *locked(&owned.near) = self.near.now();
        self.reading.edition(owned, self.near.now(), modes, &self.orders.0)
    }

    /// Starts what runs beside them; without a store that is little.
    pub(super) fn look_after(&mut self) {
        if self.owned.awaits.is_some() {
            self.background = background::without_store(&self.owned, &self.metrics.panics);
            return;
        }
        background::of_store(&mut self.tasks, &self.owned.store, &self.metrics, &self.audience, &self.readiness);
        let interval = self.reading.config.settings.store.schema_interval;
        self.background = background::of_owned(&self.owned, self.beside.take(), interval, &self.metrics.panics);
    }

    /// The store is there: what needs it takes the place of what was served without it.
    pub(super) async fn arrive(&mut self, serving: &Serving, new: Built) {
        let Built { owned: new, tasks: beside } = new;
        new.cache.limit(&self.reading.mappings);
        self.beside = Some(beside);
        let old = std::mem::replace(&mut self.owned, new.clone());
        new.cache.wait_for(&old.cache);
        self.note_written(&new);
        self.audience.join(new.clone());
        let still = new.reloader.inherit(&old.reloader).await;
        serving.adopt(self.edition(&new, &self.modes)).await;
        drop(still);
        new.cache.inherit(&old.cache).await;
        self.audience.only(&new);
        self.look_after();
        self.readiness.loaded(new.clone());
        old.definitions.clear();
        tracing::info!(store = new.store.name(), "the store is there: owned keys are answered");
        // What changed between their loading and the change feed's beginning, and what `old` was asked for and had not
        // done.
        new.reloader.request_all(true);
    }

    /// Applies the configuration that is read now. Definitions are loaded again in any case.
    pub(super) async fn reload(&mut self, serving: &Serving, mut loaded: Loaded) {
        let reading = Reading::of(&mut loaded);
        loaded.faults.doubts().for_each(|doubt| tracing::warn!("{doubt}"));
        let mut changed = Ok(());
        if let Err(text) = Audit::try_open(&reading.config.settings.audit) {
            loaded.faults.add("audit.file", text);
        }
        if loaded.faults.is_empty() {
            changed = self.change(serving, reading).await;
        }
        if let Err(Failure::Faults(faults)) = &changed {
            faults.iter().for_each(|fault| loaded.faults.add(fault.path.clone(), fault.message.clone()));
        }
        if !loaded.faults.is_empty() {
            changed = Err(Failure::Start(loaded.faults.to_string()));
        }
        self.metrics.app.config_reloaded(Outcome::of(&changed));
        let told = changed.as_ref().copied().map_err(|failure| failure.to_string().replace('\n', "; "));
        self.metrics.audit.add(&AuditLine::of_the_sidecar("SIGHUP", &told));
        match changed {
            Ok(()) => tracing::info!("SIGHUP: the configuration is reloaded"),
            Err(failure) => tracing::error!(
                faults = failure.to_string().replace('\n', "; "),
                "SIGHUP: the configuration is faulty and was not reloaded; the old one stays in force, all of it"
            ),
        }
    }

    /// First everything that may fail, then the change.
    async fn change(&mut self, serving: &Serving, mut reading: Reading) -> Result<(), Failure> {
        let (old, new) = (self.reading.config.clone(), &reading.config);
        if old.settings.auth.mode != new.settings.auth.mode {
            return Err(Failure::fault(
                "auth.mode",
                "cannot be changed while clients are connected; start the sidecar again",
            ));
        }
        let topology = self.moved(&new.settings)?;
        let has_new_mappings = !are_same(&old.definitions, &new.definitions) || !are_same(&old.caches, &new.caches);
        if has_new_mappings {
            self.may_change_mappings()?;
        }
        let mut early = Vec::new();
        let mut successor = None;
        if has_new_mappings {
            successor = Some(self.successor(serving, reading.mappings.clone(), &mut early).await?);
            self.give_back_what_goes(serving, &reading.mappings.list).await?;
        }
        reading.inherit(&self.reading);
        self.owned.cache.limit(&reading.mappings);
        reading.show_limits(&self.metrics.cache.limits);
        let modes = self.inherited_modes(&reading.mappings.list);
        let in_force = old.settings.clone();
        self.reading = reading;
        self.near.change(&old.near, &self.reading.config.near, &self.metrics.near);
        let edition = self.edition(successor.as_ref().map_or(&self.owned, |new| &new.owned), &modes);
        self.modes = modes;
        self.metrics.cache.slow.configure(&self.reading.config.settings.slowlog);
        if let Err(error) = self.metrics.audit.configure(&self.reading.config.settings.audit) {
            tracing::error!(%error, "the audit log cannot be opened again; what is written goes where it went before");
        }
        if let Err((setting, error)) = self.metrics.traces.configure(&self.reading.config.settings.traces) {
            tracing::error!(setting, error, "traces go on as before");
        }
        for name in keep_fixed(&mut self.reading.config.settings, in_force) {
            tracing::warn!(setting = name, "this setting is changed by a restart only; its old value stays in force");
        }
        self.owned.events.configure(&self.reading.config.settings.notify);
        match successor {
            Some(new) => {
                self.succeed(serving, edition, new).await;
                // When which keys end is noted anew, as they are read again.
                self.owned.events.missed();
            }
            None => {
                serving.adopt(edition).await;
                let owned = self.owned.clone();
                let planned = tokio::spawn(async move {
                    owned.replan_all().await;
                    owned.reloader.request_all(true);
                });
                // While the store does not answer, who asks for another mode does not wait for it.
                let _later = tokio::time::timeout(PLANNING, planned).await;
            }
        }
        self.near.follow();
        self.show_modes();
        self.change_over(serving, self.modes.all_configured(), Asked::default()).await;
        for order in early {
            self.obey(serving, order).await;
        }
        if let Some(topology) = topology {
            self.owned.events.are_of(topology.db());
            serving.upstream.move_to(topology);
            self.near.is_elsewhere();
        }
        Ok(())
    }

    /// What takes the place of the mappings in force. That may take long while the store does not answer: who asks for
    /// another mode meanwhile does not wait for it, and what was asked is done once more behind the reload.
    async fn successor(
        &mut self,
        serving: &Serving,
        mappings: Mappings,
        early: &mut Vec<ModeOrder>,
    ) -> Result<Built, Failure> {
        let (owned, settings, metrics) =
            (self.owned.clone(), self.reading.config.settings.clone(), self.metrics.clone());
        let mut built = pin!(build::successor(&owned, mappings, &settings, &metrics));
        loop {
            tokio::select! {
                built = &mut built => return built,
                Some(order) = self.orders.1.recv() => {
                    early.push(order.again());
                    self.obey(serving, order).await;
                }
            }
        }
    }

    /// What waits for a mapping that goes is saved first, or put aside, and what the journal held at the start belongs
    /// to the mappings of the start until it is taken over.
    ///
    /// # Errors
    /// Something waits, and the store does not take it now.
    fn may_change_mappings(&self) -> Result<(), Failure> {
        let (cache, standing) = (&self.owned.cache, self.owned.store.standing());
        let is_taken_over = cache.journal().is_none_or(|journal| journal.has_succeeded());
        let waits = cache.has_deferred() || !is_taken_over && cache.count_deferred() > 0;
        if waits && !standing.takes_writes() {
            return Err(Failure::Start(format!("mappings are not changed while deferred writes wait: {standing}")));
        }
        if !is_taken_over && standing.takes_writes() {
            let why = "mappings are not changed while the store is asked what it has of the journal; try again soon";
            return Err(Failure::Start(why.to_owned()));
        }
        Ok(())
    }

    /// The upstream's new location, if it has one.
    fn moved(&self, new: &Settings) -> Result<Option<Topology>, Failure> {
        if is_at_the_same(&self.reading.config.settings.upstream, &new.upstream) {
            return Ok(None);
        }
        if new.upstream.url.is_empty() {
            return Err(Failure::fault("upstream.url", "a private server is started only with the sidecar"));
        }
        Topology::parse(&new.upstream).map(Some).map_err(|text| Failure::fault("upstream.url", &text))
    }

    /// Other mappings take the place of those that are served.
    async fn succeed(&mut self, serving: &Serving, edition: Edition, new: Built) {
        let Built { owned: new, tasks } = new;
        let old = std::mem::replace(&mut self.owned, new.clone());
        new.cache.is_reloaded();
        new.cache.prepare(&old.cache).await;
        new.cache.wait_for(&old.cache);
        self.note_written(&new);
        self.audience.join(new.clone());
        let still = new.reloader.overtake(&old.reloader).await;
        serving.adopt(edition).await;
        drop(still);
        new.cache.succeed(&old.cache).await;
        self.audience.only(&new);
        self.readiness.loaded(new.clone());
        // What the old ones hold is of no use any more, even if a task still has a reference to them.
        let interval = self.reading.config.settings.store.schema_interval;
        self.background = background::of_owned(&new, Some(tasks), interval, &self.metrics.panics);
        let names: Vec<&str> = new.mappings.list.iter().map(|mapping| mapping.pattern.text()).collect();
        self.metrics.keep(&names);
        old.definitions.clear();
        // A change may have come while the definitions were loaded, or a request to the old ones.
        new.reloader.request_all(true);
    }
}

/// True if the same blocks stand in the same places, whatever their limits.
fn are_same(old: &[MappingConfig], new: &[MappingConfig]) -> bool {
    let is_same = |(old, new): (&MappingConfig, &MappingConfig)| old.path == new.path && old.is_same(new);
    old.len() == new.len() && old.iter().zip(new).all(is_same)
}

/// True if the connections of one lead where those of the other do.
fn is_at_the_same(old: &config::Upstream, new: &config::Upstream) -> bool {
    let access =
        |of: &config::Upstream| [&of.url, &of.ca_file, &of.sentinel_username, &of.sentinel_password].map(String::clone);
    access(old) == access(new) && old.tls_verify == new.tls_verify
}

/// Sections, or single settings, that a reload may change.
const FREE: [&str; 15] = [
    "audit",
    "limits",
    "notify",
    "security",
    "slowlog",
    "tls",
    "traces",
    "server.ping",
    "upstream.url",
    "upstream.ca_file",
    "upstream.tls_verify",
    "upstream.sentinel_username",
    "upstream.sentinel_password",
    "pubsub.on_loss",
    "auth.mode",
];

fn is_free(section: &str, key: &str) -> bool {
    FREE.contains(&section) || FREE.contains(&format!("{section}.{key}").as_str())
}

/// Settings that a reload does not change keep the values that are in force; the names of those that differ.
fn keep_fixed(settings: &mut Settings, in_force: Settings) -> Vec<String> {
    let [mut tree, old] = [&*settings, &in_force].map(|settings| serde_json::to_value(settings).unwrap_or_default());
    let mut names = Vec::new();
    for (section, keys) in old.as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten().filter(|(key, _)| !is_free(section, key)) {
            let new = &mut tree[section.as_str()][key.as_str()];
            if new != value {
                names.push(format!("{section}.{key}"));
                new.clone_from(value);
            }
        }
    }
    *settings = serde_json::from_value(tree).unwrap_or(in_force);
    names
}

#[cfg(test)]
mod tests {
    use super::keep_fixed;
    use crate::config::Settings;

    #[test]
    fn what_needs_a_restart_is_named_and_kept() {
        let old = Settings::default();
        let mut new = Settings::default();
        assert!(keep_fixed(&mut new, old.clone()).is_empty());
        new.limits.clients = 7;
        new.upstream.url = "redis://elsewhere".into();
        new.upstream.lanes = 9;
        new.server.workers = 3;
        assert_eq!(keep_fixed(&mut new, old), ["server.workers", "upstream.lanes"]);
        assert_eq!((new.upstream.lanes, new.server.workers), (2, 0));
        assert_eq!((new.limits.clients, new.upstream.url.as_str()), (7, "redis://elsewhere"));
    }
}
