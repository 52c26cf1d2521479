//! The parts under attack: one Postgres, one Redis, and sidecars behind fault proxies. One of them asks the store
//! through a pooler; or both ask whichever of two Postgres is the primary.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use super::feeds::Feed;
use super::places::file_of;
use super::upstreams::Upstream;
use crate::support::free_port;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{until, warnings};

pub const SIDECARS: usize = 2;

/// The sidecar whose loads and writes go through a pooler. Its change feed does not.
const POOLED: usize = 1;
/// The proxy of that feed.
const FEED: usize = SIDECARS;

pub const KEYS: usize = 48;
/// Older than this nothing may be served, whatever breaks (`cache.max_staleness`).
pub const MAX_STALENESS: Duration = Duration::from_secs(2);

/// The tables that writers and readers share.
pub const COMMON_TABLES: [&str; 3] = ["things", "fleeting", "registers"];

/// Definitions in each sidecar's file.
pub const PLACES: usize = 40;

const CONFIG: &str = r#"
[[definitions]]
key = "place:{id}"
type = "string"
file = "PLACES"

[[caches]]
key = "thing:{id:int}"
type = "hash"
table = "things"
ttl = "1h"
renew = true
expires_column = "ends"
write = "through"
deferred = ["d"]

[[caches]]
key = "fleeting:{id:int}"
type = "hash"
table = "fleeting"
fields = ["v"]
write = "through"
delete = "row"

[[caches]]
key = "register:{id:int}"
type = "hash"
table = "registers"
ttl = "1h"
write = "through"
deferred = ["d"]

[[caches]]
key = "still:{id:int}"
type = "string"
value = "v"
query = "SELECT $1::bigint AS v FROM pg_sleep(0.05) AS still"
ttl = "1h"

[[near]]
keys = "near:*"
ttl = "1h"
"#;

const TABLES: &str = "CREATE TABLE things (id BIGINT PRIMARY KEY, v BIGINT, d BIGINT, other BIGINT, ends TIMESTAMPTZ); \
    INSERT INTO things SELECT i, 0, 0, 0, NULL FROM generate_series(0, 51) AS i; \
    CREATE TABLE registers (id BIGINT PRIMARY KEY, v BIGINT, d BIGINT); \
    CREATE TABLE fleeting (id BIGINT PRIMARY KEY, v BIGINT, remark TEXT) PARTITION BY RANGE (id); \
    CREATE TABLE fleeting_low PARTITION OF fleeting FOR VALUES FROM (0) TO (6); \
    CREATE TABLE fleeting_high PARTITION OF fleeting FOR VALUES FROM (6) TO (12); CREATE EXTENSION pg_stat_statements;";

/// What else the store is.
enum Layout {
    /// A pooler before it, for one of the sidecars.
    Pooled(Mutex<PgBouncer>),
    /// The ports of two servers, and the one that is the standby now. Each sidecar has a proxy for each of them.
    Pair([u16; 2], Mutex<Option<Postgres>>),
}

/// A server that is gone when this is, also with a failed test: it confirms nothing without its standby, and whoever
/// writes there waits.
struct Goes<'g>(&'g Postgres);

impl Drop for Goes<'_> {
    fn drop(&mut self) {
        self.0.stop_if_running();
    }
}

pub struct World {
    pub feed: Feed,
    primary: RwLock<Arc<Postgres>>,
    layout: Layout,
    pub upstream: Mutex<Upstream>,
    /// The port of the upstream, where it is one server.
    pub direct: Option<u16>,
    proxies: Vec<Proxy>,
    sidecars: Vec<Mutex<Option<Sidecar>>>,
    /// Stale reads that each sidecar's verifier has found, and that the contract allows.
    allowed: [AtomicUsize; SIDECARS],
    /// How often each sidecar's journal went back in time.
    pub restored: [AtomicUsize; SIDECARS],
    pub ports: Vec<u16>,
    folder: tempfile::TempDir,
}

/// A Postgres with the tables.
fn prepared(feed: Feed) -> Postgres {
    let postgres = Postgres::start_with(feed.options());
    postgres.sql(TABLES);
    postgres
}

/// A standby of this primary, which from now on confirms nothing that the standby does not have: by the name that it has
/// there, because a change feed by replication would count as a standby, too. What the primary holds
/// before is copied: of a setting that waits for a standby it knows nothing when it is promoted.
fn in_step(primary: &Postgres, port: u16, feed: Feed) -> Postgres {
    let standby = primary.standby_at(port, feed.options());
    let state =
        || primary.sql("SELECT state, sync_state FROM pg_stat_replication WHERE application_name = 'walreceiver'");
    until("it follows", || state().starts_with("streaming"));
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'");
    primary.sql("SELECT pg_reload_conf()");
    until("it is waited for", || state() == "streaming|sync");
    standby
}

impl World {
    pub fn new(feed: Feed) -> Self {
        let postgres = prepared(feed);
        let pooler = PgBouncer::start(&postgres, "transaction");
        let ports = [postgres.port, pooler.port, postgres.port];
        let world = Self::of(feed, postgres, Layout::Pooled(Mutex::new(pooler)), &ports);
        world.builder(0).migrated();
        // Loads, writes and notices of the first overtake each other.
        world.proxies[0].delay(20);
        (0..SIDECARS).for_each(|i| world.start(i));
        world
    }

    /// One whose store is a primary and a standby that has everything before it is confirmed.
    pub fn with_standby(feed: Feed) -> Self {
        let postgres = prepared(feed);
        let ports = [postgres.port, free_port()];
        let world = Self::of(feed, postgres, Layout::Pair(ports, Mutex::default()), &[ports, ports].concat());
        world.builder(0).migrated();
        *world.standby() = Some(in_step(&world.postgres(), ports[1], feed));
        (0..SIDECARS).for_each(|i| world.start(i));
        world
    }

    fn standby(&self) -> MutexGuard<'_, Option<Postgres>> {
        let Layout::Pair(_, standby) = &self.layout else { panic!("there is none") };
        standby.lock().expect("a lock")
    }

    fn of(feed: Feed, postgres: Postgres, layout: Layout, ports: &[u16]) -> Self {
        let upstream = Upstream::start();
        let world = Self {
            feed,
            primary: RwLock::new(Arc::new(postgres)),
            layout,
            direct: upstream.port(),
            upstream: Mutex::new(upstream),
            proxies: ports.iter().map(|port| Proxy::to(*port)).collect(),
            sidecars: (0..SIDECARS).map(|_| Mutex::new(None)).collect(),
            allowed: Default::default(),
            restored: Default::default(),
            ports: (0..SIDECARS).map(|_| free_port()).collect(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        (0..SIDECARS).for_each(|i| fs::write(world.places(i), file_of(0)).expect("written"));
        (0..SIDECARS).for_each(|i| fs::write(world.clock(i), "+0").expect("written"));
        world
    }

    /// The server that takes writes.
    pub fn postgres(&self) -> Arc<Postgres> {
        self.primary.read().expect("a lock").clone()
    }

    pub fn pooler(&self) -> MutexGuard<'_, PgBouncer> {
        let Layout::Pooled(pooler) = &self.layout else { panic!("there is none") };
        pooler.lock().expect("a lock")
    }

    /// Another primary: `change` ends the old one, or not, and promotes the new one by what it is given. Then the old
    /// one is gone, and there is another standby in its place.
    pub fn fail_over(&self, change: impl FnOnce(&Postgres, &dyn Fn())) {
        let mut standby = self.standby();
        let (old, new) = (self.postgres(), Arc::new(standby.take().expect("a standby")));
        let goes = Goes(&old);
        change(&old, &|| {
            new.promote();
            *self.primary.write().expect("a lock") = new.clone();
        });
        drop(goes);
        *standby = Some(in_step(&new, old.port, self.feed));
    }

    /// The file of a sidecar's definitions.
    pub fn places(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("places{i}.json"))
    }

    /// The file that says how wrong a sidecar's wall clock is.
    pub fn clock(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("clock{i}"))
    }

    pub fn journal(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("journal{i}.db"))
    }

    /// Where a copy of a journal is kept.
    pub fn journal_copy(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    /// The proxies of a sidecar.
    pub fn ways(&self, i: usize) -> impl Iterator<Item = &Proxy> {
        let of_sidecar = match &self.layout {
            Layout::Pooled(_) if i == POOLED => vec![&self.proxies[i], &self.proxies[FEED]],
            Layout::Pooled(_) => vec![&self.proxies[i]],
            Layout::Pair(..) => self.proxies[2 * i..][..2].iter().collect(),
        };
        of_sidecar.into_iter()
    }

    /// The proxy by which a sidecar reaches the server that takes writes.
    pub fn way_to_primary(&self, i: usize) -> &Proxy {
        match &self.layout {
            Layout::Pooled(_) => &self.proxies[i],
            Layout::Pair(ports, _) => &self.proxies[2 * i + usize::from(ports[1] == self.postgres().port)],
        }
    }

    /// Where the store is for a sidecar.
    fn url(&self, i: usize) -> String {
        match &self.layout {
            Layout::Pooled(_) => self.postgres().url_at(self.proxies[i].port),
            Layout::Pair(..) => {
                let [one, other] = [0, 1].map(|at| self.proxies[2 * i + at].port);
                let hosts = format!("127.0.0.1:{one},127.0.0.1:{other}");
                format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write")
            }
        }
    }

    pub fn builder(&self, i: usize) -> Builder {
        let config = CONFIG.replace("PLACES", &self.places(i).display().to_string());
        let mut builder = Sidecar::builder()
            .config(&config)
            .preload("faketime/libfaketime.so.1")
            .environment("FAKETIME_TIMESTAMP_FILE", self.clock(i).display().to_string())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        for (name, value) in [
            ("UPSTREAM__URL", self.upstream.lock().expect("a lock").url(i)),
            ("STORE__URL", self.url(i)),
            ("STORE__FEED", self.feed.name().into()),
            ("SERVER__LISTEN", format!("127.0.0.1:{}", self.ports[i])),
            ("JOURNAL__PATH", self.journal(i).display().to_string()),
            ("JOURNAL__FLUSH_INTERVAL", "200ms".into()),
            ("CACHE__MAX_STALENESS", format!("{}s", MAX_STALENESS.as_secs())),
            ("CACHE__NEGATIVE_TTL", "10s".into()),
            ("STORE__SCHEMA_INTERVAL", "500ms".into()),
            ("STORE__HEARTBEAT_INTERVAL", "200ms".into()),
            ("STORE__HEARTBEAT_TIMEOUT", "800ms".into()),
            ("STORE__QUERY_TIMEOUT", "1s".into()),
            ("STORE__CONNECT_TIMEOUT", "1s".into()),
            ("VERIFY__SAMPLE", "50".into()),
        ] {
            builder = builder.set(name, value);
        }
        if i == POOLED && matches!(self.layout, Layout::Pooled(_)) {
            let feed = self.postgres().url_at(self.proxies[FEED].port);
            builder = builder.set("STORE__POOLER", "transaction").set("STORE__FEED_URL", feed);
        }
        // Trouble is what this is about; a panic is not. Stale records are judged by `expect_no_stale_reads`.
        builder
            .expect(warnings::UPSTREAM_AWAY)
            .expect(&[warnings::SENTINEL_SILENT, warnings::SENTINELS_SILENT])
            .expect(&[warnings::NODE_SILENT, warnings::NODE_FAILED, warnings::NEAR_SILENT])
            .expect(warnings::STORE_AWAY)
            .expect(warnings::STORE_LATE)
            .expect(&[
                warnings::DEFERRED_WAIT,
                warnings::DEFERRED_STAY,
                warnings::STORE_TOO_SLOW,
                warnings::WAITING_FOR_THE_NOTE,
                warnings::FAULTY_RELOAD,
                warnings::NO_ROW,
                warnings::CUT_AT_THE_END,
                warnings::NO_TRIGGERS,
                warnings::UNTOLD,
                warnings::UNFIT,
                warnings::UNPLANNED,
                warnings::STALE,
                warnings::JOURNAL_COPIED,
                warnings::JOURNAL_LACKS,
                warnings::STORE_MOVED,
                warnings::IS_A_STANDBY,
                warnings::OTHER_MODE,
            ])
    }

    pub fn install_triggers(&self) {
        let done = self.builder(0).set("STORE__URL", self.postgres().url()).execute(&["triggers", "--install"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Does what no trigger tells of: stale reads that a verifier finds meanwhile are allowed.
    pub fn is_untold(&self, act: impl FnOnce()) {
        let before = [0, 1].map(|i| self.stale_reads(i));
        act();
        for (i, before) in before.into_iter().enumerate() {
            self.allowed[i].fetch_add(self.stale_reads(i) - before, SeqCst);
        }
    }

    /// How many stale reads a sidecar's verifier has found since its start.
    fn stale_reads(&self, i: usize) -> usize {
        self.with(i, |sidecar| sidecar.log().matches("a stale record was served").count()).unwrap_or(0)
    }

    pub fn expect_no_stale_reads(&self, i: usize) {
        assert_eq!(self.stale_reads(i), self.allowed[i].load(SeqCst), "the verifier of sidecar {i} found stale reads");
    }

    pub fn start(&self, i: usize) {
        self.allowed[i].store(0, SeqCst);
        *self.sidecars[i].lock().expect("a lock") = Some(self.builder(i).spawn());
    }

    pub fn kill(&self, i: usize) {
        self.expect_no_stale_reads(i);
        if let Some(mut sidecar) = self.sidecars[i].lock().expect("a lock").take() {
            sidecar.signal("KILL");
            while !sidecar.has_ended() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What a sidecar's metrics and log say.
    pub fn with<T>(&self, i: usize, ask: impl FnOnce(&Sidecar) -> T) -> Option<T> {
        self.sidecars[i].lock().expect("a lock").as_ref().map(ask)
    }
}
