//! One fault under load: what clients see of it, that nothing acknowledged is lost, that no reply goes astray, and that
//! service comes back by itself.

use std::collections::BTreeMap;

use super::load::{Ask, Load, Seen, player};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::Wire;

/// What a trial is made of.
pub struct Trial {
    settings: Vec<(&'static str, String)>,
    /// Texts, of which every error that a client sees must hold one.
    sees: &'static [&'static str],
    /// Clients may be closed.
    closes: bool,
    /// The store is a Postgres behind a proxy.
    has_postgres: bool,
    redis: &'static [&'static str],
    clients: usize,
    /// `upstream.url` stands in the configuration file, not in the environment.
    has_url_in_file: bool,
}

/// The parts, and the load.
pub struct World {
    pub redis: Redis,
    /// Between the sidecar and the upstream.
    pub upstream: Proxy,
    pub postgres: Option<Postgres>,
    /// Between the sidecar and the store.
    pub store: Option<Proxy>,
    pub sidecar: Sidecar,
    /// Between the clients and the sidecar.
    pub door: Proxy,
    pub load: Load,
}

/// What a fault may make the sidecar warn of, besides that a part is away.
const LOGS: &[&str] = &[
    warnings::DOES_NOT_READ,
    warnings::DOES_NOT_READ_MESSAGES,
    warnings::SUBSCRIBER_REFUSED,
    warnings::SHARED_SUBSCRIBER_DOWN,
    warnings::HELD_BACK,
    warnings::DEFERRED_WAIT,
    warnings::FAULTY_RELOAD,
    warnings::NEEDS_A_RESTART,
];

/// What is said while the upstream is away.
pub const AWAY: [&str; 4] = ["may have been applied", "command was not sent", "was lost", "does not answer"];

impl Trial {
    /// A trial whose clients may see only errors that hold one of these texts.
    pub fn sees(sees: &'static [&'static str]) -> Self {
        // What a fault leaves on disk must be what was acknowledged.
        let redis = &["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes"];
        Self {
            settings: Vec::new(),
            sees,
            closes: false,
            has_postgres: false,
            redis,
            clients: 6,
            has_url_in_file: false,
        }
    }

    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    pub fn closes(self) -> Self {
        Self { closes: true, ..self }
    }

    pub fn with_postgres(self) -> Self {
        Self { has_postgres: true, ..self }
    }

    pub fn with_url_in_file(self) -> Self {
        Self { has_url_in_file: true, ..self }
    }

    /// Runs it: `fault` happens under load, and is over when it returns.
    pub fn run(self, fault: impl FnOnce(&mut World)) -> BTreeMap<String, u64> {
        let redis = Redis::with(self.redis);
        let upstream = Proxy::to(redis.port);
        let url = format!("redis://127.0.0.1:{}", upstream.port);
        let mut builder = Sidecar::builder().set("SERVER__WORKERS", "2").expect(LOGS);
        builder = builder.expect(warnings::UPSTREAM_AWAY).expect(warnings::STORE_AWAY);
        builder = if self.has_url_in_file {
            let (section, unset) = ("[upstream]\nurl = ", "\"\"");
            let shipped =
                hearthside::config::SHIPPED.replace(&format!("{section}{unset}"), &format!("{section}\"{url}\""));
            builder.config(&shipped)
        } else {
            builder.set("UPSTREAM__URL", url)
        };
        let (mut postgres, mut store) = (None, None);
        if self.has_postgres {
            let server = Postgres::start();
            let direct = Sidecar::builder().postgres(&server);
            assert!(direct.execute(&["migrate", "--demo"]).status.success());
            drop(direct.migrated());
            let proxy = Proxy::to(server.port);
            builder = builder.set("STORE__URL", server.url_at(proxy.port));
            (postgres, store) = (Some(server), Some(proxy));
        }
        for (name, value) in self.settings {
            builder = builder.set(name, value);
        }
        let sidecar = builder.start();
        let door = Proxy::to(sidecar.port);
        let load = Load::start(door.port, self.clients, &[Ask::Through, Ask::Through, Ask::Owned]);
        let mut world = World { redis, upstream, postgres, store, sidecar, door, load };
        world.load.go_on(20);
        fault(&mut world);
        world.load.go_on(20);
        let World { redis, sidecar, load, .. } = world;
        let seen = load.stop();
        judge(&seen, &mut redis.wire(), &mut sidecar.wire());
        let errors = errors_of(&seen);
        for error in errors.keys() {
            assert!(self.sees.iter().any(|text| error.contains(text)), "a client saw {error:?}");
        }
        let closed: u64 = seen.iter().map(|seen| seen.closed).sum();
        assert!(self.closes || closed == 0, "{closed} clients were closed");
        errors
    }
}

fn errors_of(seen: &[Seen]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (error, count) in seen.iter().flat_map(|seen| &seen.errors) {
        *all.entry(error.clone()).or_default() += count;
    }
    all
}

/// No reply went astray, and what was acknowledged is there, once.
fn judge(seen: &[Seen], direct: &mut Wire, through: &mut Wire) {
    for seen in seen {
        assert!(seen.wrong.is_empty(), "wrong replies: {:#?}", seen.wrong);
        let count = direct.ask(&format!("GET count:{}", seen.id));
        let count: u64 = count.lines().nth(1).map_or(0, |text| text.parse().expect("a number"));
        let most = seen.counted + seen.ambiguous;
        assert!(
            (seen.counted..=most).contains(&count),
            "client {}: {} increments acknowledged, {} perhaps, {count} made",
            seen.id,
            seen.counted,
            seen.ambiguous
        );
        if let Some(kept) = &seen.kept {
            let held = through.ask(&format!("HGET {} note_{}", player(seen.id), seen.id));
            let is_known = [kept].into_iter().chain(&seen.perhaps).any(|value| held.contains(value.as_str()));
            assert!(
                is_known,
                "client {}: wrote {kept} (perhaps {:?}), the store holds {held:?}",
                seen.id, seen.perhaps
            );
        }
    }
}
