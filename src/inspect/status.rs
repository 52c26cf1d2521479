//! The sidecar as a whole.

use serde::Serialize;

use super::subject::{About, Subject};
use super::times;
use crate::mapping::{Kind, Mapping};
use crate::near::Near;
use crate::store::CurrentPlan;
use crate::telemetry::clock::{Tick, UnixMs};
use crate::telemetry::light;
use crate::telemetry::metrics::ServerMetric;

/// What STATUS tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct Status {
    pub version: &'static str,
    pub commit: Option<&'static str>,
    pub started: String,
    pub uptime_seconds: u64,
    pub config: ConfigFacts,
    pub store: StoreFacts,
    pub upstream: UpstreamFacts,
    pub change_feed: FeedFacts,
    pub journal: JournalFacts,
    pub memory: MemoryFacts,
    pub near: NearFacts,
    pub key_events: KeyEventFacts,
    pub clients: ClientFacts,
    pub mappings: usize,
    pub mappings_not_up: usize,
    pub mappings_not_told: usize,
    pub not_wholly_on: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct ConfigFacts {
    pub file: String,
    pub read: String,
}

/// Whether a part is there, since when, and if not, why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct LightFacts {
    pub state: &'static str,
    pub since: Option<String>,
    pub why: Option<String>,
    pub took_ms: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct StoreFacts {
    pub name: &'static str,
    #[serde(flatten)]
    pub light: LightFacts,
    pub takes_writes: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct UpstreamFacts {
    #[serde(flatten)]
    pub light: LightFacts,
    pub paused_until: Option<String>,
    pub version: String,
    pub lanes_connected: i64,
    pub pinned: i64,
    pub servers: Vec<ServerFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct ServerFacts {
    pub endpoint: String,
    pub is_up: bool,
    pub slots: i64,
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct FeedFacts {
    pub kind: &'static str,
    #[serde(flatten)]
    pub light: LightFacts,
    pub heard_ms_ago: Option<i64>,
    pub gaps: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct JournalFacts {
    pub bytes: i64,
    pub most_bytes: usize,
    pub waiting_keys: i64,
    pub aside_bytes: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct MemoryFacts {
    pub entries: u64,
    pub bytes: u64,
    pub most_bytes: u64,
    pub definitions: i64,
    pub client_buffer_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct NearFacts {
    pub blocks: usize,
    pub is_told: bool,
    pub entries: usize,
    pub bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct KeyEventFacts {
    pub subscriptions: i64,
    pub messages: u64,
    pub ends: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct ClientFacts {
    pub connected: usize,
    pub most: usize,
    pub subscribing: usize,
    pub tracking: usize,
}

impl LightFacts {
    fn of(light: &light::Shown) -> Self {
        let state = match light.is_up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        let took_ms = light.took.map(times::in_ms);
        Self { state, since: light.since.map(times::shown), why: light.why.clone(), took_ms }
    }
}

impl ServerFacts {
    fn of((endpoint, server): (String, ServerMetric)) -> Self {
        Self { endpoint, is_up: server.up.get() == 1, slots: server.slots.get(), lost: server.lost.get() }
    }
}

impl Subject {
    /// The sidecar as a whole.
    #[must_use]
    pub fn status(&self) -> Status {
        let About { config, read_at, most_clients, most_journal } = &*self.about;
        let (census, journal) = (self.clients.census(), &self.metrics.journal);
        let room = self.cache.room();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            commit: About::commit(),
            started: times::shown(About::started()),
            uptime_seconds: Tick::now().as_ms() / 1000,
            config: ConfigFacts { file: config.clone(), read: times::shown(*read_at) },
            store: StoreFacts {
                name: self.store.name(),
                light: LightFacts::of(&self.metrics.app.store.shown()),
                takes_writes: self.store.standing().takes_writes(),
            },
            upstream: self.upstream_facts(),
            change_feed: self.feed_facts(),
            journal: JournalFacts {
                bytes: journal.bytes.get(),
                most_bytes: *most_journal,
                waiting_keys: self.metrics.write_behind.deferred_keys.get(),
                aside_bytes: journal.aside_bytes.get(),
            },
            memory: MemoryFacts {
                entries: room.entries,
                bytes: room.bytes,
                most_bytes: self.cache.most_bytes(),
                definitions: self.metrics.definitions.definitions.get(),
                client_buffer_bytes: self.metrics.clients.buffers.held(),
            },
            near: self.near_facts(),
            key_events: self.key_event_facts(),
            clients: ClientFacts {
                connected: census.connected,
                most: *most_clients,
                subscribing: census.subscribing,
                tracking: census.tracking,
            },
            mappings: self.mappings.list.len(),
            mappings_not_up: self.mappings.list.iter().filter(|mapping| !self.is_up(mapping)).count(),
            mappings_not_told: self.cached_plans().filter(|plan| !plan.is_watched()).count(),
            not_wholly_on: self.not_wholly_on(),
        }
    }

    fn is_up(&self, mapping: &Mapping) -> bool {
        match mapping.kind {
            Kind::Definition => self.definitions.unloaded(mapping.id).is_none(),
            Kind::Cache => self.cache.plan_of(mapping.id).is_some_and(|plan| plan.plan().is_ok()),
        }
    }

    fn near_facts(&self) -> NearFacts {
        let near = self.near.as_deref();
        let (entries, bytes) = near.map_or((0, 0), Near::room);
        let is_told = near.is_some_and(|near| near.is_vouched(Tick::now()));
        NearFacts { blocks: near.map_or(0, Near::blocks), is_told, entries, bytes }
    }

    fn key_event_facts(&self) -> KeyEventFacts {
        let metrics = &self.metrics.key_events;
        KeyEventFacts {
            subscriptions: metrics.subscriptions.get(),
            messages: metrics.events.get(),
            ends: metrics.expiries.get(),
        }
    }

    fn cached_plans(&self) -> impl Iterator<Item = &CurrentPlan> {
        self.mappings.list.iter().filter_map(|mapping| self.cache.plan_of(mapping.id))
    }

    /// An upstream that is there, and to which nobody's commands go, is not up.
    fn upstream_facts(&self) -> UpstreamFacts {
        let (metrics, pause) = (&self.metrics.upstream, self.upstream.paused());
        let mut light = LightFacts::of(&metrics.light.shown());
        if let Some(pause) = pause.filter(|_| light.state != "down") {
            let why = "commands are held back (HEARTHSIDE PAUSE); HEARTHSIDE RESUME lets them go on";
            light =
                LightFacts { state: "paused", since: Some(times::shown(pause.since)), why: Some(why.into()), ..light };
        }
        UpstreamFacts {
            light,
            paused_until: pause.map(|pause| times::shown(pause.ends_at())),
            version: self.upstream.version.get().version.clone(),
            lanes_connected: metrics.lanes.connected.get(),
            pinned: metrics.pinned.open.get(),
            servers: metrics.servers.all().into_iter().map(ServerFacts::of).collect(),
        }
    }

    /// A feed that is connected and has been silent for too long vouches for nothing.
    fn feed_facts(&self) -> FeedFacts {
        let light = self.metrics.app.feed.shown();
        let mut facts = LightFacts::of(&light);
        if light.is_up == Some(true) && self.metrics.cache.change_feed_up.get() == 0 {
            facts.state = "silent";
            facts.why = Some("nothing has come for longer than cache.max_staleness".to_owned());
        }
        FeedFacts {
            kind: self.store.taken_feed().map_or("file", |taken| taken.kind.name()),
            light: facts,
            heard_ms_ago: light.heard.map(|heard| UnixMs::now().since(heard)),
            gaps: self.metrics.owned.gaps.get(),
        }
    }
}
