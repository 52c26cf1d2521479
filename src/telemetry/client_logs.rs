//! What clients bring about and the log says, each kind now and then: a client that comes again and again does not fill
//! the log.

use super::LogThrottle;

/// When a line of each kind was logged last.
#[derive(Debug, Default)]
pub struct ClientLogs {
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
