//! What `/readyz` answers: everything that is still missing, as text.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::dispatch::{ModeOrders, Owned};
use crate::inspect::Subject;
use crate::store::{Change, CurrentPlan, StoreError, Unavailable};
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{AppMetrics, PanicMetrics, UpstreamMetrics};
use crate::telemetry::{LastingPart, Metrics};

/// Filled while the sidecar starts, and asked again and again.
#[derive(Debug)]
pub struct Readiness {
    app: Arc<AppMetrics>,
    upstream: Arc<UpstreamMetrics>,
    panics: Arc<PanicMetrics>,
    owned: ArcSwapOption<Owned>,
    waits_for: ArcSwapOption<Unavailable>,
    subject: ArcSwapOption<Subject>,
    orders: OnceLock<ModeOrders>,
    draining: AtomicBool,
}

impl Readiness {
    /// Nothing is ready yet.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            app: metrics.app.clone(),
            upstream: metrics.upstream.clone(),
            panics: metrics.panics.clone(),
            owned: ArcSwapOption::empty(),
            waits_for: ArcSwapOption::empty(),
            subject: ArcSwapOption::empty(),
            orders: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// What is missing from the beginning on, and why.
    pub fn waits_for(&self, away: Arc<Unavailable>) {
        self.waits_for.store(Some(away));
    }

    /// Definitions are loaded; at start, and when a reload brought other mappings.
    pub fn loaded(&self, owned: Arc<Owned>) {
        self.owned.store(Some(owned));
    }

    /// Whether the store has answered, and after how long; if not, why.
    pub fn store_answered(&self, answer: &Result<(), String>, time: Duration) {
        match answer {
            Ok(()) => {
                self.app.store.up();
                self.app.store.took(time);
            }
            Err(why) => self.app.store.down(why),
        }
    }

    /// Notes what a change says of the feed that it comes from.
    pub fn feed_told(&self, change: &Change) {
        match change {
            Change::Gap(why) | Change::StillGap(why) => self.app.feed.down(why),
            Change::Alive(as_of) => {
                self.app.feed.up();
                self.app.feed.took(Duration::from_millis(Tick::now().since(*as_of)));
            }
            _ => {}
        }
    }

    /// Where other modes of mappings are asked for from now on.
    pub fn takes_orders(&self, orders: ModeOrders) {
        // It is the same for as long as the process runs.
        let _known = self.orders.set(orders);
    }

    /// Where other modes of mappings are asked for, once the sidecar has started.
    #[must_use]
    pub fn orders(&self) -> Option<&ModeOrders> {
        self.orders.get()
    }

    /// What can be looked into from now on.
    pub fn shows(&self, subject: Subject) {
        self.subject.store(Some(Arc::new(subject)));
    }

    /// What can be looked into, once clients are served.
    #[must_use]
    pub fn subject(&self) -> Option<Arc<Subject>> {
        self.subject.load_full()
    }

    /// The sidecar is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Definitions and cache, once there are any.
    #[must_use]
    pub fn owned(&self) -> Option<Arc<Owned>> {
        self.owned.load_full()
    }

    /// What an operator should know although clients are served: a line for each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.owned().map(|owned| owned.faults()).unwrap_or_default();
        remarks.extend(self.owned().iter().flat_map(|owned| owned.unjournaled()));
        let standing = self.owned().map(|owned| owned.store.standing());
        let pause = self.subject().and_then(|subject| subject.upstream.paused());
        remarks.extend(pause.map(|pause| {
            let left = pause.until.saturating_duration_since(Instant::now()).as_secs();
            format!("commands for the upstream are held back for {left} s more (HEARTHSIDE PAUSE)")
        }));
        remarks.extend(standing.filter(|standing| !standing.takes_writes()).map(|standing| standing.to_string()));
        let forbidden = self.upstream.forbidden.list();
        if !forbidden.is_empty() {
            let commands = forbidden.join(", ");
            let text = "at the upstream: what they tell is not known";
            remarks.push(format!("the user of upstream.url may not run {commands} {text}"));
        }
        let (known, answering) = (self.upstream.sentinels.known.get(), self.upstream.sentinels.answering.get());
        if answering < known {
            remarks.push(format!("{answering} of {known} sentinels answer; without any no failover is noticed"));
        }
        remarks.extend(self.panicked());
        remarks
    }

    /// The parts that have ended in a panic since the start.
    fn panicked(&self) -> impl Iterator<Item = String> {
        LastingPart::all().filter_map(|part| match self.panics.count(part) {
            0 => None,
            count => {
                let (words, meaning, times) = (part.words(), part.meaning(), if count == 1 { "time" } else { "times" });
                Some(format!(
                    "{words} ended in a panic {count} {times} since the start, which is a bug: please report it, with \
                     what the log says. {meaning}"
                ))
            }
        })
    }

    /// The change feed, if it is down, the servers of the upstream, and the mappings that are in the store, a line for
    /// each: whether it fits, and whether its changes are reported.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        let feed = self
            .app
            .feed
            .why()
            .map(|why| format!("the change feed is down, and keys are held to cache.max_staleness: {why}"));
        let upstream = self.upstream.servers.lines();
        feed.into_iter().chain(upstream).chain(self.replicas()).chain(self.mappings()).collect()
    }

    /// How loads from hot standbys go, where there are any.
    fn replicas(&self) -> Option<String> {
        let reads = self.owned()?.store.replica_reads()?;
        Some(match (reads.is_up, reads.why_not) {
            (true, None) => "hot standbys (store.read_url): read".to_owned(),
            (true, Some(why)) => format!("hot standbys (store.read_url): the last load went to the primary: {why}"),
            (false, why) => {
                let why = why.unwrap_or_else(|| "none has answered yet".to_owned());
                format!("hot standbys (store.read_url): none is read, loads go to the primary: {why}")
            }
        })
    }

    fn mappings(&self) -> Vec<String> {
        let owned = self.owned();
        let line = |owned: &Owned, plan: &CurrentPlan| {
            let state = match (plan.plan(), plan.is_watched()) {
                (Err(StoreError::Faulty(_)), _) => "does not fit the schema",
                (Err(_), _) => "its tables could not be looked at yet",
                (Ok(_), true) => "up",
                (Ok(_), false) => "up, and its changes are not reported (triggers are missing)",
            };
            let refused = plan.plan().ok().and_then(|_| owned.refuses_deferred(plan));
            let refused = refused.map(|why| format!("; its deferred writes are refused: {why}")).unwrap_or_default();
            let denied = plan.unwritable().into_iter().next();
            let denied = denied.map(|(_, why)| format!("; it may not be written: {why}")).unwrap_or_default();
            format!("mapping '{}': {state}{refused}{denied}", plan.mapping().pattern.text())
        };
        owned.iter().flat_map(|owned| owned.plans().map(|plan| line(owned, plan)).collect::<Vec<_>>()).collect()
    }

    /// What keeps clients from being served; empty when nothing does.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.draining.load(Relaxed) {
            missing.push("shutting down".to_owned());
        }
        if self.owned.load().is_none() {
            // It says what is wrong with the store, too.
            let why = self.waits_for.load().as_ref().map(|away| format!(", {}", away.why()));
            missing.push(format!("definitions are not loaded{}", why.unwrap_or_default()));
        } else if self.app.store_up.get() == 0 {
            missing.push(self.app.store.why().unwrap_or_else(|| "the store does not answer".to_owned()));
        }
        missing
    }
}
