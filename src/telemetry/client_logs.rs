//! What clients bring about and the log says, each kind now and then: a client that comes again and again does not fill
//! the log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::LogThrottle;

/// Most names that are remembered; of more, nothing is logged.
const MOST_NAMES: usize = 1000;

/// Names of which something was logged.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashSet<String>>);

impl Names {
    /// True when it is the first time for this name.
    pub fn is_new(&self, name: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MOST_NAMES && !known.contains(name) && known.insert(name.to_owned())
    }
}

/// When a line of each kind was logged last.
#[derive(Debug, Default)]
pub struct ClientLogs {
    /// Names of clients that have asked for the nodes of a cluster.
    pub cluster_aware: Names,
    /// HTTP was spoken to a port of Redis.
    pub http: LogThrottle,
    /// Replies were not read, or too much was held.
    pub unread: LogThrottle,
    /// Messages were not read.
    pub unread_messages: LogThrottle,
    /// A connection of the client's own was lost at the upstream.
    pub own_lost: LogThrottle,
    /// A client began to follow the upstream.
    pub replica_attached: LogThrottle,
    /// One does no more.
    pub replica_gone: LogThrottle,
    /// A subscriber's connection was lost, and the client is subscribed again.
    pub subscribed_again: LogThrottle,
    /// The upstream does not let a client subscribe again.
    pub not_subscribed: LogThrottle,
}
