//! Every metric, its name, unit and meaning. docs/OPERATIONS.md lists them for operators.

use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::holding::Buffers;
use super::refusals::Refusals;
use super::unasked::Unasked;

/// Which way a command took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the names are the labels")]
pub enum RouteLabel {
    Local,
    Definition,
    Cache,
    Write,
    Passthrough,
    Pinned,
    Split,
    Refused,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the names are the labels")]
pub enum Outcome {
    Ok,
    Hit,
    Absent,
    Miss,
    Error,
}

/// Labels of `hearthside_commands_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabels {
    /// Which way.
    pub route: RouteLabel,
    /// How it ended.
    pub outcome: Outcome,
}

/// Labels of counters by result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// How it ended.
    pub outcome: Outcome,
}

/// Labels of `hearthside_invalidations_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `change`, `mapping`, `everything`, `command` or `admin`.
    pub reason: &'static str,
}

/// Labels of `hearthside_limits_reached_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabel {
    /// The setting of `[limits]`.
    pub limit: &'static str,
}

/// Labels of counters by mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MappingLabel {
    /// The key pattern.
    pub mapping: String,
}

/// Counters of commands, looked up once so that the hot path only adds.
#[derive(Debug)]
pub struct Commands {
    family: Family<CommandLabels, Counter>,
    found: [[OnceLock<Counter>; OUTCOMES.len()]; ROUTES.len()],
}

impl Commands {
    /// The number of commands that went `route` and ended as `outcome`.
    #[must_use]
    pub fn get(&self, route: RouteLabel, outcome: Outcome) -> u64 {
        self.family.get_or_create(&CommandLabels { route, outcome }).get()
    }

    /// Adds `n` commands that went `route` and ended as `outcome`.
    pub fn add(&self, route: RouteLabel, outcome: Outcome, n: u64) {
        let find = || self.family.get_or_create_owned(&CommandLabels { route, outcome });
        self.found[route as usize][outcome as usize].get_or_init(find).inc_by(n);
    }
}

const ROUTES: [RouteLabel; 8] = [
    RouteLabel::Local,
    RouteLabel::Definition,
    RouteLabel::Cache,
    RouteLabel::Write,
    RouteLabel::Passthrough,
    RouteLabel::Pinned,
    RouteLabel::Split,
    RouteLabel::Refused,
];
const OUTCOMES: [Outcome; 5] = [Outcome::Ok, Outcome::Hit, Outcome::Absent, Outcome::Miss, Outcome::Error];

/// One client's counts since they were last added to the process's: no shared memory is touched per command.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: [[u64; OUTCOMES.len()]; ROUTES.len()],
    /// A bit for each count that is not zero.
    used: u64,
}

impl Tally {
    /// Counts `n` commands.
    pub fn add(&mut self, route: RouteLabel, outcome: Outcome, n: u64) {
        self.counts[route as usize][outcome as usize] += n;
        self.used |= 1 << (route as usize * OUTCOMES.len() + outcome as usize);
    }

    /// Adds everything to `commands` and begins at zero again.
    pub fn flush(&mut self, commands: &Commands) {
        while self.used != 0 {
            let at = self.used.trailing_zeros() as usize;
            let (route, outcome) = (at / OUTCOMES.len(), at % OUTCOMES.len());
            commands.add(ROUTES[route], OUTCOMES[outcome], std::mem::take(&mut self.counts[route][outcome]));
            self.used &= self.used - 1;
        }
    }
}

/// The process's metrics; one `Arc` is shared.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct Metrics {
    registry: Registry,
    pub commands: Commands,
    pub loads: Family<OutcomeLabel, Counter>,
    pub load_seconds: Histogram,
    pub journal_bytes: Gauge,
    pub journal_refused: Counter,
    pub journal_collisions: Counter,
    pub deferred: Counter,
    pub deferred_keys: Gauge,
    pub deferred_without_row: Family<MappingLabel, Counter>,
    pub journal_aside_bytes: Gauge,
    pub flushes: Family<OutcomeLabel, Counter>,
    pub flushed: Counter,
    pub put_aside: Counter,
    pub stale_reads: Family<MappingLabel, Counter>,
    pub verified: Counter,
    pub stale_served: Counter,
    pub swept: Counter,
    pub writes: Family<OutcomeLabel, Counter>,
    pub write_seconds: Histogram,
    pub coalesced_waiters: Counter,
    pub invalidations: Family<ReasonLabel, Counter>,
    pub gaps: Counter,
    pub change_feed_up: Gauge,
    pub cache_entries: Gauge,
    pub cache_bytes: Gauge,
    pub definitions: Gauge,
    pub scan_cursors: Gauge,
    pub own_writes: Gauge,
    pub renewals_dropped: Counter,
    pub reloads: Family<OutcomeLabel, Counter>,
    pub lanes_connected: Gauge,
    pub lanes_held: Gauge,
    pub pubsub_topics: Gauge,
    pub lane_connects: Counter,
    pub lane_reconnects: Counter,
    pub lane_failures: Counter,
    pub pinned: Gauge,
    pub pinned_idle: Gauge,
    pub pinned_waiting: Gauge,
    pub pinned_refused: Counter,
    pub pubsub_up: Gauge,
    pub pubsub_connects: Counter,
    pub subscribers_restored: Counter,
    pub clients: Gauge,
    pub clients_total: Counter,
    pub clients_refused: Family<ReasonLabel, Counter>,
    pub admin_refused: Family<ReasonLabel, Counter>,
    pub clients_idle: Counter,
    pub clients_cut: Counter,
    pub limits_reached: Family<LimitLabel, Counter>,
    pub client_buffers: Arc<Buffers>,
    pub panics: Counter,
    pub tls_failures: Counter,
    pub config_reloads: Family<OutcomeLabel, Counter>,
    pub protocol_errors: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub upstream_up: Gauge,
    pub unasked: Unasked,
    pub refusals: Refusals,
    pub circuit_open: Gauge,
    pub store_up: Gauge,
}

/// Registers metrics under `hearthside_`.
#[derive(Default)]
struct Register(Registry);

impl Register {
    fn add<M: prometheus_client::registry::Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(format!("hearthside_{name}"), help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut r = Register::default();
        let unasked = Unasked::default();
        r.add(
            "upstream_unasked",
            "1 while the upstream does not let the sidecar's own user run this command, by command",
            unasked.family.clone(),
        );
        let refusals = Refusals::default();
        r.add(
            "logins_refused",
            "Logins that were refused, by reason (password, or upstream: by its word)",
            refusals.logins.clone(),
        );
        r.add(
            "commands_denied",
            "Commands answered -NOPERM by the sidecar, by what refused them (rules of a user, deny list, private server)",
            refusals.denied.clone(),
        );
        Self {
            commands: Commands {
                family: r.add("commands", "Commands by route and outcome", Family::default()),
                found: std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new())),
            },
            loads: r.add("loads", "Loads of one cached key from the store, by outcome", Family::default()),
            load_seconds: r.add(
                "load_seconds",
                "Time from a load's start to its record, in seconds",
                Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            ),
            journal_bytes: r.add("journal_bytes", "Bytes of deferred writes that wait for the store", Gauge::default()),
            journal_collisions: r.add(
                "journal_collisions",
                "Batches of deferred writes that somebody else had noted in the store; they were sent again",
                Counter::default(),
            ),
            journal_refused: r.add(
                "journal_refused",
                "Deferred writes that were refused because the journal is full, or its file cannot be written",
                Counter::default(),
            ),
            deferred: r.add("deferred", "Writes acknowledged from the journal", Counter::default()),
            deferred_without_row: r.add(
                "deferred_without_row",
                "Keys whose deferred writes were dropped because their row is not there, by mapping",
                Family::default(),
            ),
            journal_aside_bytes: r.add(
                "journal_aside_bytes",
                "Bytes of deferred writes that were put aside and are still in the journal",
                Gauge::default(),
            ),
            deferred_keys: r.add(
                "deferred_keys",
                "Keys with deferred writes that wait for the store",
                Gauge::default(),
            ),
            flushes: r.add("flushes", "Statements that save deferred writes, by outcome", Family::default()),
            flushed: r.add("flushed", "Keys whose deferred writes were saved", Counter::default()),
            put_aside: r.add(
                "put_aside",
                "Keys whose deferred writes the store refused; `hearthside journal` shows them",
                Counter::default(),
            ),
            stale_reads: r.add(
                "stale_reads",
                "Records that were served although the store held something else and no change was told. Alarm on it",
                Family::default(),
            ),
            verified: r.add("verified", "Cached hits that were compared with the store", Counter::default()),
            stale_served: r.add(
                "stale_served",
                "Reads answered from a record whose TTL was over, as stale_while_revalidate or stale_if_error allow",
                Counter::default(),
            ),
            swept: r.add("swept", "Rows removed because their keys had ended", Counter::default()),
            writes: r.add("writes", "Writes of one cached key to the store, by outcome", Family::default()),
            write_seconds: r.add(
                "write_seconds",
                "Time from a write's start to its record, in seconds",
                Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            ),
            coalesced_waiters: r.counter("coalesced_waiters", "Reads that joined a load another read had begun"),
            invalidations: r.add("invalidations", "Invalidations by reason", Family::default()),
            gaps: r.counter("gaps", "Times in which changes may have been missed; the end of each empties the cache"),
            change_feed_up: r.gauge("change_feed_up", "1 while changes of the store arrive"),
            cache_entries: r.gauge("cache_entries", "Cached keys in memory, absent ones included"),
            cache_bytes: r.gauge("cache_bytes", "Memory of cached records, in bytes"),
            definitions: r.gauge("definitions", "Definitions in memory"),
            own_writes: r.gauge("own_writes", "Writes whose notices may still come back over the change feed"),
            renewals_dropped: r.counter(
                "renewals_dropped",
                "Renewals of a TTL by a read that were not journaled because too many waited; the next read renews",
            ),
            scan_cursors: r.gauge("scan_cursors", "Cursors of SCAN over owned keys that are known"),
            reloads: r.add("reloads", "Reloads of one mapping's definitions, by outcome", Family::default()),
            lanes_connected: r.gauge("lanes_connected", "Lanes that are connected to the upstream"),
            lanes_held: r.gauge(
                "lanes_held",
                "Lanes on which nothing is under way because commands are held back (HEARTHSIDE PAUSE)",
            ),
            pubsub_topics: r.gauge(
                "pubsub_topics",
                "Channels and patterns of the shared subscriber connection, those included whose confirmation is still to come",
            ),
            lane_connects: r.counter("lane_connects", "Connections opened by lanes, reconnections included"),
            lane_reconnects: r.counter("lane_reconnects", "Connections opened by lanes that had lost one"),
            lane_failures: r.counter("lane_failures", "Lane connections that failed or could not be opened"),
            pinned: r.gauge("pinned", "Pinned connections that are open, idle ones included"),
            pinned_idle: r.gauge("pinned_idle", "Pinned connections that are open and lent to nobody"),
            pinned_waiting: r.gauge("pinned_waiting", "Clients that wait for a pinned connection to come free"),
            pinned_refused: r
                .counter("pinned_refused", "Commands refused because no pinned connection came free in time"),
            pubsub_up: r.gauge("pubsub_up", "1 while the shared subscriber connection is there (pubsub.mode = shared)"),
            pubsub_connects: r
                .counter("pubsub_connects", "Shared subscriber connections opened, reconnections included"),
            subscribers_restored: r.counter(
                "subscribers_restored",
                "Subscribers whose own upstream connection was lost and that were subscribed anew",
            ),
            clients: r.gauge("clients", "Clients that are connected"),
            clients_total: r.counter("clients_accepted", "Clients accepted"),
            clients_refused: r.add(
                "clients_refused",
                "Clients refused because a limit was reached, by limit",
                Family::default(),
            ),
            admin_refused: r.add(
                "admin_refused",
                "Requests that the admin port refused, by reason (origin, host, token)",
                Family::default(),
            ),
            clients_idle: r
                .counter("clients_idle", "Clients closed because they asked nothing for limits.idle_timeout"),
            clients_cut: r.counter("clients_cut", "Clients disconnected because they did not read their replies"),
            limits_reached: r.add(
                "limits_reached",
                "Requests refused and clients cut because a limit was reached, by limit",
                Family::default(),
            ),
            client_buffers: Arc::new(Buffers::new(r.gauge(
                "client_buffer_bytes",
                "What was read from clients and waits for them, in bytes; a client counts from 4 KiB on",
            ))),
            panics: r.counter("panics", "Client tasks that ended in a panic: a bug. Alarm on it"),
            tls_failures: r.counter("tls_failures", "Clients that did not get through the TLS handshake"),
            config_reloads: r.add(
                "config_reloads",
                "Reloads of the configuration (SIGHUP), by outcome",
                Family::default(),
            ),
            protocol_errors: r.counter("protocol_errors", "Clients closed after a framing fault"),
            bytes_in: r.counter("client_in_bytes", "Bytes read from clients"),
            bytes_out: r.counter("client_out_bytes", "Bytes written to clients"),
            upstream_up: r.gauge("upstream_up", "1 while the upstream answers"),
            unasked,
            refusals,
            circuit_open: r.gauge(
                "upstream_circuit_open",
                "1 while the upstream has been away for upstream.breaker_after, and commands for it fail at once",
            ),
            store_up: r.gauge("store_up", "1 while the store answers"),
            registry: r.0,
        }
    }
}

impl Metrics {
    /// OpenMetrics text.
    /// Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics could not be written: {error}\n"),
        }
    }

    /// Counts a client that a limit kept out.
    pub fn refused(&self, reason: &'static str) {
        self.clients_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a request that the admin port refused: `origin`, `host` or `token`.
    pub fn refused_by_admin(&self, reason: &'static str) {
        self.admin_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts what a limit refused or cut.
    pub fn limited(&self, limit: &'static str) {
        self.limits_reached.get_or_create(&LimitLabel { limit }).inc();
    }

    /// Counts one invalidation.
    pub fn invalidated(&self, reason: &'static str) {
        self.invalidations.get_or_create(&ReasonLabel { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Outcome, RouteLabel};

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::default();
        let mut tally = super::Tally::default();
        tally.add(RouteLabel::Cache, Outcome::Hit, 3);
        tally.flush(&metrics.commands);
        tally.flush(&metrics.commands);
        metrics.invalidated("change");
        let text = metrics.render();
        assert!(text.contains("hearthside_commands_total{route=\"Cache\",outcome=\"Hit\"} 3"), "{text}");
        assert!(text.contains("hearthside_invalidations_total{reason=\"change\"} 1"), "{text}");
    }
}
