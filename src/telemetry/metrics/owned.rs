//! What `dispatch` counts of owned keys, definitions and cached ones alike.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::durations::Durations;
use super::labels::{MappingLabel, ReasonLabel};
use super::register::Register;

/// Of everything owned.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is explained where it is registered, in the words operators read")]
pub struct OwnedMetrics {
    invalidations: Family<ReasonLabel, Counter>,
    pub gaps: Counter,
    pub retained: Gauge,
    feed_seconds: Durations,
    pub scan_cursors: Gauge,
    pub mirror_waiting: Gauge,
    trigger_trouble: Family<MappingLabel, Counter>,
}

impl OwnedMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            invalidations: r.family_of(
                "invalidations",
                "Invalidations by reason",
                ReasonLabel::all(["change", "mapping", "everything", "command", "fill", "admin"]),
            ),
            retained: r.gauge(
                "change_feed_retained_bytes",
                "Bytes of its log that Postgres keeps for this sidecar's feed, with logical replication",
            ),
            feed_seconds: r.seconds(
                "change_feed_seconds",
                "Time from the sending of a heartbeat to its return behind all changes before it, in seconds",
            ),
            gaps: r.counter("gaps", "Times in which changes may have been missed; the end of each empties the cache"),
            scan_cursors: r.gauge("scan_cursors", "Cursors of SCAN over owned keys that are known"),
            mirror_waiting: r.gauge(
                "mirror_waiting",
                "Keys that were written and that the upstream does not have as they are yet, of mappings with mirror = \
                 true",
            ),
            trigger_trouble: r.family(
                "trigger_trouble",
                "Changes that a trigger told as the whole mapping because something went wrong in it. Alarm on it",
            ),
        }
    }

    /// Counts a heartbeat that took so many milliseconds: it carries no finer clock.
    pub fn feed_delayed(&self, ms: u64) {
        self.feed_seconds.observe(ms * 1000, 1);
    }

    /// Shows what is counted of a mapping before anything was.
    pub fn show(&self, mapping: &str) {
        drop(self.trigger_trouble.get_or_create(&MappingLabel { mapping: mapping.to_owned() }));
    }

    /// Shows a mapping no more, which a reload has taken away.
    pub fn forget(&self, mapping: &str) {
        self.trigger_trouble.remove(&MappingLabel { mapping: mapping.to_owned() });
    }

    /// Counts a change that a trigger could not tell by its keys.
    pub fn trigger_failed(&self, mapping: &str) {
        self.trigger_trouble.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).inc();
    }

    /// Counts one invalidation: `change`, `mapping`, `everything`, `command`, `fill` or `admin`.
    pub fn invalidated(&self, reason: &'static str) {
        self.invalidations.get_or_create(&ReasonLabel { reason }).inc();
    }
}
