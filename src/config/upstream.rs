//! `[upstream]` and `[pubsub]`: the Redis behind the sidecar, and how subscriptions reach it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ByteSize, TlsVerify};

/// The Redis behind the sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    /// `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `rediss+sentinel://`; empty: a private redis-server
    /// is started.
    pub url: String,
    /// A PEM file of certificate authorities for `rediss://`; empty: the system's.
    pub ca_file: String,
    /// What a `rediss://` server must prove.
    pub tls_verify: TlsVerify,
    /// As whom the sentinels are asked; empty: as their default user.
    pub sentinel_username: String,
    /// Its password; empty: none.
    pub sentinel_password: String,
    /// Where the upstream is a cluster: commands that change keys of several slots at once are split (MSET).
    pub cluster_split: bool,
    /// Which servers may answer reads of the keys in `read_keys`.
    pub read_from: ReadFrom,
    /// Patterns, as KEYS takes them, of keys that may be read from replicas; none: no key is.
    pub read_keys: Vec<String>,
    /// How far a replica that is read may be behind; for so long after a write its client reads from the primary.
    #[serde(with = "humantime_serde")]
    pub read_lag: Duration,
    /// The availability zone that this sidecar is in: servers that say they are in the same one are read first.
    pub zone: String,
    /// Lanes per worker thread, RESP version and database.
    pub lanes: usize,
    /// How long one attempt to connect may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A command that has no reply for so long ends its connection; 0: never. Blocking commands may take any time.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// When the upstream has been unreachable for so long, commands for it fail at once instead of waiting.
    #[serde(with = "humantime_serde")]
    pub breaker_after: Duration,
    /// How long a command waits for a lane that is not connected.
    #[serde(with = "humantime_serde")]
    pub queue_timeout: Duration,
    /// Most bytes of commands that wait on one lane.
    pub queue_bytes: ByteSize,
    /// A lane on which nothing has arrived for so long is sent a PING.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long that PING may stay unanswered before the lane is given up.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// Most connections lent to one client each (transactions, blocking commands, subscriptions) in the process.
    pub pinned_max: usize,
    /// How long a command waits for one of them to come free.
    #[serde(with = "humantime_serde")]
    pub pinned_timeout: Duration,
    /// Clean pinned connections kept for the next client, per worker thread, protocol, database and login.
    pub pinned_idle: usize,
    /// The same in the whole process.
    pub pinned_idle_total: usize,
    /// How long one of them, or a lane that no client uses, stays open.
    #[serde(with = "humantime_serde")]
    pub pinned_idle_time: Duration,
    /// When the front request of a lane takes longer, clients with nothing under way use another one; 0: never.
    #[serde(with = "humantime_serde")]
    pub lane_patience: Duration,
    /// The folder of the private redis-server.
    pub private_dir: PathBuf,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: String::new(),
            ca_file: String::new(),
            tls_verify: TlsVerify::default(),
            sentinel_username: String::new(),
            sentinel_password: String::new(),
            cluster_split: false,
            read_from: ReadFrom::default(),
            read_keys: Vec::new(),
            read_lag: Duration::from_secs(1),
            zone: String::new(),
            lanes: 2,
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(30),
            breaker_after: Duration::from_secs(10),
            queue_timeout: Duration::from_secs(3),
            queue_bytes: ByteSize(64 << 20),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(30),
            pinned_max: 4096,
            pinned_timeout: Duration::from_secs(3),
            pinned_idle: 16,
            pinned_idle_total: 256,
            pinned_idle_time: Duration::from_secs(60),
            lane_patience: Duration::from_millis(100),
            private_dir: "data".into(),
        }
    }
}

/// Which servers of the upstream answer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadFrom {
    /// The primary.
    #[default]
    Primary,
    /// A replica, if one is fit.
    Replica,
    /// Whichever is near: in the same availability zone, or the fastest to answer.
    Nearest,
}

/// How subscriptions reach the upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PubSub {
    /// `exact` or `shared`.
    pub mode: PubSubMode,
    /// What becomes of a subscriber whose own upstream connection is lost.
    pub on_loss: OnLoss,
    /// Shared: messages that may wait for one subscriber; past it that client is disconnected.
    pub subscriber_output: ByteSize,
}

impl Default for PubSub {
    fn default() -> Self {
        Self { mode: PubSubMode::Exact, on_loss: OnLoss::Restore, subscriber_output: ByteSize(32 << 20) }
    }
}

/// What becomes of a subscriber whose own upstream connection is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// It is subscribed again, and gets a message on the channel `__hearthside__:gap` if it listens there.
    #[default]
    Restore,
    /// It is closed, so that it subscribes again itself.
    Close,
}

/// Which connection carries a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PubSubMode {
    /// The subscribing client's own: counts are those of a Redis.
    #[default]
    Exact,
    /// One for the whole process.
    Shared,
}
