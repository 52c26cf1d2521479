//! What is counted of clients: who comes in, what is read and written, whom a limit or a fault ends, what is refused.
//! `server` counts most of it, `dispatch` and `transaction` what they refuse.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::client_names::ClientNames;
use super::command_times::CommandTimes;
use super::durations::Durations;
use super::labels::ReasonLabel;
use super::register::Register;
use crate::telemetry::client_logs::ClientLogs;
use crate::telemetry::client_memory::Buffers;
use crate::telemetry::refusals::{By, DeniedLabel, Refusals};

/// Labels of `hearthside_limits_reached_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    /// The setting of `[limits]`.
    limit: &'static str,
}

/// What refuses clients.
const REFUSALS: [&str; 3] = ["clients", "clients_per_address", "buffers"];

/// What refuses requests and cuts clients.
const LIMITS: [&str; 10] = [
    "request",
    "request_argument",
    "request_arguments",
    "requests_per_second",
    "buffers",
    "client_output_soft",
    "subscriber_output_soft",
    "client_output_timeout",
    "subscriber_output",
    "client-output-buffer-limit",
];

/// Of all clients.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct ClientMetrics {
    pub connected: Gauge,
    pub names: ClientNames,
    pub times: CommandTimes,
    pub subscribers: Gauge,
    pub delivery_seconds: Durations,
    pub accepted: Counter,
    refused: Family<ReasonLabel, Counter>,
    pub tls_failures: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub buffers: Arc<Buffers>,
    pub replicas: Gauge,
    pub replicas_attached: Counter,
    pub idle: Counter,
    pub cut: Counter,
    limits_reached: Family<LimitLabel, Counter>,
    pub protocol_errors: Counter,
    pub panics: Counter,
    pub subscribers_restored: Counter,
    pub refusals: Refusals,
    pub logged: ClientLogs,
}

impl ClientMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            connected: r.gauge("clients", "Clients that are connected"),
            names: ClientNames::register(r),
            times: CommandTimes::register(r),
            subscribers: r.gauge("pubsub_subscribers", "Clients with a subscription, when that was asked for"),
            delivery_seconds: r.seconds(
                "pubsub_delivery_seconds",
                "Time from the coming of a message to its writing to a subscriber, in seconds, for each that gets it",
            ),
            accepted: r.counter("clients_accepted", "Clients accepted"),
            refused: r.family_of(
                "clients_refused",
                "Clients refused because a limit was reached, by limit",
                ReasonLabel::all(REFUSALS),
            ),
            tls_failures: r.counter("tls_failures", "Clients that did not get through the TLS handshake"),
            bytes_in: r.counter("client_in_bytes", "Bytes read from clients"),
            bytes_out: r.counter("client_out_bytes", "Bytes written to clients"),
            buffers: Arc::new(Buffers::new(r.gauge(
                "client_buffer_bytes",
                "What was read from clients and waits for them, in bytes; a client counts from 4 KiB on",
            ))),
            replicas: r
                .gauge("replicas", "Clients that follow the upstream (SYNC, PSYNC), each over a connection of its own"),
            replicas_attached: r.counter("replicas_attached", "Clients that have begun to follow the upstream"),
            idle: r.counter("clients_idle", "Clients closed because they asked nothing for limits.idle_timeout"),
            cut: r.counter("clients_cut", "Clients disconnected because they did not read their replies"),
            limits_reached: r.family_of(
                "limits_reached",
                "Requests refused and clients cut because a limit was reached, by limit",
                LIMITS.map(|limit| LimitLabel { limit }),
            ),
            protocol_errors: r.counter("protocol_errors", "Clients closed after a framing fault"),
            panics: r.counter("panics", "Client tasks that ended in a panic: a bug. Alarm on it"),
            subscribers_restored: r.counter(
                "subscribers_restored",
                "Subscribers whose own upstream connection was lost and that were subscribed again",
            ),
            refusals: Self::refusals(r),
            logged: ClientLogs::default(),
        }
    }

    fn refusals(r: &mut Register) -> Refusals {
        let logins = r.family_of(
            "logins_refused",
            "Logins that were refused, by reason (password, or upstream: by its word)",
            ReasonLabel::all(["password", "upstream"]),
        );
        let denied = r.family_of(
            "commands_denied",
            "Commands answered -NOPERM by the sidecar, by what refused them (rules of a user, deny list, private \
             server)",
            By::ALL.map(DeniedLabel::from),
        );
        Refusals::new(logins, denied)
    }

    /// Counts a client that a limit kept out.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Clients that any limit kept out.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        REFUSALS.map(|reason| self.refused.get_or_create(&ReasonLabel { reason }).get()).iter().sum()
    }

    /// What a limit refused or cut.
    #[must_use]
    pub fn reached(&self, limit: &'static str) -> u64 {
        self.limits_reached.get_or_create(&LimitLabel { limit }).get()
    }

    /// Counts what a limit refused or cut.
    pub fn limited(&self, limit: &'static str) {
        self.limits_reached.get_or_create(&LimitLabel { limit }).inc();
    }
}
