//! `[store]`: the database behind owned keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// The database behind owned keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// `postgres://` or `sqlite://`.
    pub url: String,
    /// Postgres: the server itself where `url` leads to a pooler, for what needs a session; empty: `url`.
    pub feed_url: String,
    /// Postgres: hot standbys that keys are loaded from where they are certain to be up to date; empty: none.
    pub read_url: String,
    /// Postgres: what stands between.
    pub pooler: Pooler,
    /// Postgres: how changes are told.
    pub feed: Feed,
    /// Postgres: the publication that says of which tables, where they are told by logical replication.
    pub publication: String,
    /// Postgres: so much of its log the server may keep for the feed, with logical replication; 0: without a bound.
    pub feed_max_log: ByteSize,
    /// Postgres: a PEM file of the authorities that may sign the server's certificate; empty: the system's.
    pub ca_file: String,
    /// Postgres: the zone of timestamp columns without one; empty: the database's, or the role's.
    pub timezone: String,
    /// Most connections for loads and writes of single keys, and as many again for everything else.
    pub max_connections: u32,
    /// How long a load or write waits for its turn.
    #[serde(with = "humantime_serde")]
    pub queue_timeout: Duration,
    /// How long opening a connection may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long one statement may take.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// Postgres: the least time between two statements that load keys of one mapping; 0: none.
    #[serde(with = "humantime_serde")]
    pub load_pause: Duration,
    /// Failures in a row that open the circuit breaker.
    pub breaker_failures: u32,
    /// How long the breaker stays open before one load tries again.
    #[serde(with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// SQLite: how often the file is checked for changes.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How often rows that have expired by their `expires_column` are removed; 0: never.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// How long ago they must have expired.
    #[serde(with = "humantime_serde")]
    pub sweep_grace: Duration,
    /// How often the schema is compared with the one that the mappings' statements were made for.
    #[serde(with = "humantime_serde")]
    pub schema_interval: Duration,
    /// Postgres: how often the change feed is proven alive.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// Postgres: a heartbeat that has not come back by then is a gap.
    #[serde(with = "humantime_serde")]
    pub heartbeat_timeout: Duration,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite://data/hearthside.db".into(),
            feed_url: String::new(),
            read_url: String::new(),
            pooler: Pooler::None,
            feed: Feed::Notify,
            publication: "hearthside".into(),
            feed_max_log: ByteSize(4 << 30),
            ca_file: String::new(),
            timezone: String::new(),
            max_connections: 8,
            queue_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            query_timeout: Duration::from_secs(5),
            load_pause: Duration::ZERO,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
            poll_interval: Duration::from_millis(20),
            sweep_interval: Duration::ZERO,
            sweep_grace: Duration::from_secs(600),
            schema_interval: Duration::from_secs(3),
            heartbeat_interval: Duration::from_secs(2),
            heartbeat_timeout: Duration::from_secs(5),
        }
    }
}

/// What stands between the sidecar and Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// Nothing: a connection is a session of the server.
    #[default]
    None,
    /// A pooler that lends a session for each transaction.
    Transaction,
}

/// How Postgres tells of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feed {
    /// Triggers send notices.
    #[default]
    Notify,
    /// Triggers write rows that are read, while much changes; else they send notices.
    Outbox,
    /// The server's log is read, by logical replication.
    Replication,
    /// By logical replication where the server and the role allow it, and the publication is there; else by triggers.
    Auto,
}
