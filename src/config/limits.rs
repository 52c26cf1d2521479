//! `[limits]`: what one client, and all of them together, may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// What one client may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most clients; a new one beyond is refused.
    pub clients: usize,
    /// Most clients of one IP address; 0: as many as may come in at all.
    pub clients_per_address: usize,
    /// A client that has asked nothing for so long is closed, unless it subscribes, monitors or waits; 0: never.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Requests of one client in a second, over any second; 0: as many as it likes.
    pub requests_per_second: u32,
    /// Largest argument of a request (`proto-max-bulk-len`).
    pub request_argument: ByteSize,
    /// Most arguments of a request.
    pub request_arguments: usize,
    /// Largest request that must be gathered before it can be answered.
    pub request: ByteSize,
    /// Requests of one client that may be under way; past it the sidecar stops reading from that client.
    pub pipeline: ByteSize,
    /// Memory for what was read from clients and waits for them, in all; past it new clients are refused, and the
    /// client that holds most is closed.
    pub buffers: ByteSize,
    /// Replies that may wait for one client; past it the sidecar stops reading from that client.
    pub client_output: ByteSize,
    /// A client for which more waits is disconnected after `client_output_soft_time`; 0: it is not.
    pub client_output_soft: ByteSize,
    /// How long that much may wait without a break.
    #[serde(with = "humantime_serde")]
    pub client_output_soft_time: Duration,
    /// The same for a client that subscribes or monitors.
    pub subscriber_output_soft: ByteSize,
    /// How long that much may wait without a break.
    #[serde(with = "humantime_serde")]
    pub subscriber_output_soft_time: Duration,
    /// A client that takes no byte of what waits for it for so long is disconnected.
    #[serde(with = "humantime_serde")]
    pub client_output_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            clients_per_address: 0,
            idle_timeout: Duration::ZERO,
            requests_per_second: 0,
            request_argument: ByteSize(512 << 20),
            request_arguments: 1 << 20,
            request: ByteSize(1 << 30),
            pipeline: ByteSize(16 << 20),
            buffers: ByteSize(1 << 30),
            client_output: ByteSize(64 << 20),
            client_output_soft: ByteSize(0),
            client_output_soft_time: Duration::from_secs(60),
            subscriber_output_soft: ByteSize(8 << 20),
            subscriber_output_soft_time: Duration::from_secs(60),
            client_output_timeout: Duration::from_secs(30),
        }
    }
}
