//! What one client may cost.

use std::sync::Arc;

use crate::config::Limits;

/// What the configuration says of every client.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `[limits]`.
    pub limits: Arc<Limits>,
    /// A subscriber whose own upstream connection is lost is subscribed again (`pubsub.on_loss`).
    pub resubscribes: bool,
    /// Bytes of messages that may wait for one subscriber of a hub (`pubsub.subscriber_output`).
    pub subscriber_output: usize,
    /// There is an audit log (`audit.file`).
    pub audits: bool,
    /// There is a collector of traces (`traces.endpoint`).
    pub traces: bool,
    /// One of both.
    pub is_followed: bool,
    /// The part of all commands that is traced (`traces.sample`).
    pub sample: f64,
}
