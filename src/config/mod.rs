//! The settings: one tree that is passed down, of which each module gets only its own section. The default of a setting
//! is its `Default`; a test holds the shipped `config.toml` equal to the defaults.

mod addresses;
mod audit;
mod exposure;
mod extremes;
mod faults;
mod limits;
mod load;
mod log_level;
mod mapping;
mod mode;
mod near;
mod nearest;
mod notify;
mod rate;
mod serde_messages;
mod size;
mod slowlog;
mod store;
mod tls_verify;
mod traces;
mod tracking;
mod upstream;
mod user;
mod validate;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use audit::{AuditConfig, AuditKeys};
pub use exposure::is_loopback;
pub use faults::{Fault, Faults};
pub use limits::Limits;
pub use load::{Loaded, SHIPPED, default_file, load, read};
pub use mapping::{DeleteMode, MappingConfig, Shape, Timestamps, Watch, WriteMode};
pub use mode::Mode;
pub use near::NearConfig;
pub use nearest::nearest;
pub use notify::Notify;
pub use rate::Rate;
pub use size::ByteSize;
pub use slowlog::Slowlog;
pub use store::{Feed, Pooler, Store};
pub use tls_verify::{TlsVerify, digest};
pub use traces::TracesConfig;
pub use tracking::Tracking;
pub use upstream::{OnLoss, PubSub, PubSubMode, ReadFrom, Upstream};
pub use user::{Auth, AuthMode, UserConfig};

/// Everything that can be set.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The sections.
    pub settings: Settings,
    /// `[[definitions]]`.
    pub definitions: Vec<MappingConfig>,
    /// `[[caches]]`.
    pub caches: Vec<MappingConfig>,
    /// `[[near]]`.
    pub near: Vec<NearConfig>,
    /// `[[users]]`.
    pub users: Vec<UserConfig>,
}

/// The sections, each overridable by `HEARTHSIDE__SECTION__KEY`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `[server]`.
    pub server: Server,
    /// `[tls]`.
    pub tls: Tls,
    /// `[admin]`.
    pub admin: Admin,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[store]`.
    pub store: Store,
    /// `[cache]`.
    pub cache: Cache,
    /// `[tracking]`.
    pub tracking: Tracking,
    /// `[notify]`.
    pub notify: Notify,
    /// `[journal]`.
    pub journal: Journal,
    /// `[verify]`.
    pub verify: Verify,
    /// `[limits]`.
    pub limits: Limits,
    /// `[auth]`.
    pub auth: Auth,
    /// `[pubsub]`.
    pub pubsub: PubSub,
    /// `[security]`.
    pub security: Security,
    /// `[slowlog]`.
    pub slowlog: Slowlog,
    /// `[audit]`.
    pub audit: AuditConfig,
    /// `[traces]`.
    pub traces: TracesConfig,
    /// `[log]`.
    pub log: Log,
}

/// Where clients connect, and how they are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Addresses: `host:port`, `rediss://host:port` for TLS, or `unix:///path`.
    pub listen: Vec<String>,
    /// The mode of Unix sockets, octal (`770`); empty: as the umask says.
    pub unix_mode: String,
    /// Worker threads; 0: one per core.
    pub workers: usize,
    /// How long SIGTERM waits for replies that are owed.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// Clients are let in only when the store has answered and all definitions are loaded.
    pub wait_for_store: bool,
    /// A silent connection of a client is probed after so long (TCP keepalive); 0: never.
    #[serde(with = "humantime_serde")]
    pub keepalive: Duration,
    /// Who answers PING.
    pub ping: Ping,
    /// Another sidecar may listen on the same addresses, to take over.
    pub reuse_port: bool,
}

/// Who answers PING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// The sidecar, whatever the upstream does.
    #[default]
    Local,
    /// The upstream, as any command that goes there.
    Upstream,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:6380".into()],
            unix_mode: String::new(),
            workers: 0,
            shutdown_timeout: Duration::from_secs(5),
            wait_for_store: false,
            keepalive: Duration::from_secs(300),
            ping: Ping::Local,
            reuse_port: false,
        }
    }
}

/// The certificate of `rediss://` addresses of `server.listen`, and which clients they let in. PEM files; SIGHUP reads
/// them again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The server's certificate, with the chain to its authority.
    pub cert_file: String,
    /// Its private key.
    pub key_file: String,
    /// Authorities of clients' certificates; empty: clients need none.
    pub client_ca_file: String,
}

/// The HTTP port for probes, metrics and operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// `host:port`; empty: none.
    pub listen: String,
    /// A file whose text is the bearer token that everything but the probes requires; empty: none is required.
    pub token_file: String,
    /// Names under which it is reached, beside addresses and `localhost`: without ports.
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9180".into(), token_file: String::new(), hosts: Vec::new() }
    }
}

/// What is kept in memory of cached keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// Most memory for records.
    pub max_bytes: ByteSize,
    /// Most keys remembered as absent.
    pub negative_entries: u64,
    /// How long an absent key is remembered.
    #[serde(with = "humantime_serde")]
    pub negative_ttl: Duration,
    /// The oldest value served while changes may be missed.
    #[serde(with = "humantime_serde")]
    pub max_staleness: Duration,
    /// A TTL is shortened by up to this many percent, so that keys loaded together do not expire together.
    pub ttl_jitter: u8,
    /// How long after a change keys that were read before it are loaded again, together; 0: when they are asked for.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// The file in which hot keys are noted for a warm start; empty: they are not.
    pub warm: PathBuf,
    /// Most keys in that file.
    pub warm_keys: usize,
    /// So many of them are loaded in a second, at most.
    pub warm_rate: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize(256 << 20),
            negative_entries: 10_000,
            negative_ttl: Duration::from_secs(5),
            max_staleness: Duration::from_secs(30),
            ttl_jitter: 10,
            refresh: Duration::from_secs(1),
            warm: PathBuf::new(),
            warm_keys: 100_000,
            warm_rate: 5000,
        }
    }
}

/// Deferred writes on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// The file; each sidecar has its own.
    pub path: PathBuf,
    /// When a deferred write is on disk.
    pub sync: JournalSync,
    /// How long a deferred write waits, at most, before it goes to a store that answers.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// Most keys of one statement.
    pub flush_rows: usize,
    /// Most memory and disk for deferred writes that wait; past it they are refused.
    pub max_bytes: ByteSize,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            path: "data/journal.db".into(),
            sync: JournalSync::Always,
            flush_interval: Duration::from_secs(1),
            flush_rows: 1000,
            max_bytes: ByteSize(256 << 20),
        }
    }
}

/// When a deferred write is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalSync {
    /// Before it is acknowledged.
    #[default]
    Always,
    /// Within a second: a crash of the machine, not of the process, may lose that second.
    Everysec,
}

/// The background check for stale reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verify {
    /// One cached hit of so many is read from the store again; 0: none.
    pub sample: u32,
    /// Most such reads in a second.
    pub per_second: u32,
}

impl Default for Verify {
    fn default() -> Self {
        Self { sample: 10_000, per_second: 10 }
    }
}

/// What is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Commands that are answered with an error.
    pub deny: Vec<String>,
    /// Allows to listen beyond loopback without authentication.
    pub allow_no_auth: bool,
}

impl Default for Security {
    fn default() -> Self {
        let deny = [
            "SHUTDOWN",
            "DEBUG",
            "MODULE LOAD",
            "MODULE LOADEX",
            "MODULE UNLOAD",
            "REPLICAOF",
            "SLAVEOF",
            "FAILOVER",
            "SYNC",
            "PSYNC",
            "REPLCONF",
        ];
        Self { deny: deny.map(Into::into).into(), allow_no_auth: false }
    }
}

/// What is written to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,hearthside::cache=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
