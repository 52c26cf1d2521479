//! Every metric, its name, unit and meaning: a file for each part of the program that counts, and that part is given
//! the value from there. docs/OPERATIONS.md lists them for operators.

mod admin;
mod app;
mod audit;
mod cache;
mod client_names;
mod clients;
mod command_family;
mod command_times;
mod commands;
mod consistency;
mod definitions;
mod durations;
mod fallback;
mod journal;
mod key_events;
mod labels;
mod limits;
mod mapping_counts;
mod mapping_series;
mod mappings;
mod near;
mod owned;
mod panics;
mod process;
mod register;
mod servers;
mod shadow;
mod store;
mod text;
mod traces;
mod tracking;
mod upstream;
mod write_behind;

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use admin::AdminMetrics;
pub use app::AppMetrics;
pub use audit::AuditMetrics;
pub use cache::CacheMetrics;
pub use clients::ClientMetrics;
pub use command_family::CommandFamily;
pub use command_times::{CommandTimes, Timing, Under, UnderWay};
pub use commands::{Commands, RouteLabel, Tally};
pub use consistency::{ConsistencyMetrics, MINUTES};
pub use definitions::DefinitionMetrics;
pub use durations::Durations;
pub use fallback::{FallbackMetrics, FellBack};
pub use journal::JournalMetrics;
pub use key_events::KeyEventMetrics;
pub use labels::{Outcome, ReasonLabel};
pub use limits::LimitMetrics;
pub use mapping_counts::{HitCell, MappingCounts};
pub use mappings::MappingMetrics;
pub use near::{NearCounts, NearMetrics};
pub use owned::OwnedMetrics;
pub use panics::PanicMetrics;
pub use servers::{CircuitMetric, ServerMetric};
pub use shadow::{Compared, Comparing, Mismatch, ShadowMetrics, WHOLE_KEY};
pub use store::{StoreMetrics, TurnsMetric};
pub use text::Format;
pub use traces::TraceMetrics;
pub use tracking::TrackingMetrics;
pub use upstream::{HubMetrics, PinnedMetrics, UpstreamMetrics};
pub use write_behind::WriteBehindMetrics;

use register::Register;

use super::{Audit, Traces};

/// The process's metrics; each part of the program is given its own.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is named after the part of the program that counts it")]
pub struct Metrics {
    registry: Registry,
    pub commands: Commands,
    pub clients: Arc<ClientMetrics>,
    pub owned: Arc<OwnedMetrics>,
    pub mappings: Arc<MappingMetrics>,
    pub shadow: Arc<ShadowMetrics>,
    pub fallback: Arc<FallbackMetrics>,
    pub definitions: Arc<DefinitionMetrics>,
    pub tracking: Arc<TrackingMetrics>,
    pub key_events: Arc<KeyEventMetrics>,
    pub near: Arc<NearMetrics>,
    pub cache: Arc<CacheMetrics>,
    pub write_behind: Arc<WriteBehindMetrics>,
    pub store: Arc<StoreMetrics>,
    pub journal: Arc<JournalMetrics>,
    pub upstream: Arc<UpstreamMetrics>,
    pub admin: Arc<AdminMetrics>,
    pub app: Arc<AppMetrics>,
    pub panics: Arc<PanicMetrics>,
    pub audit: Arc<Audit>,
    pub traces: Arc<Traces>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut r = Register::default();
        let audit = Arc::new(Audit::new(AuditMetrics::register(&mut r)));
        let traces = Arc::new(Traces::new(TraceMetrics::register(&mut r)));
        process::register(&mut r);
        Self {
            commands: Commands::register(&mut r),
            clients: Arc::new(ClientMetrics::register(&mut r)),
            owned: Arc::new(OwnedMetrics::register(&mut r)),
            mappings: Arc::new(MappingMetrics::register(&mut r)),
            shadow: Arc::new(ShadowMetrics::register(&mut r)),
            fallback: Arc::new(FallbackMetrics::register(&mut r)),
            definitions: Arc::new(DefinitionMetrics::register(&mut r)),
            tracking: Arc::new(TrackingMetrics::register(&mut r)),
            key_events: Arc::new(KeyEventMetrics::register(&mut r)),
            near: Arc::new(NearMetrics::register(&mut r)),
            cache: Arc::new(CacheMetrics::register(&mut r, traces.clone())),
            write_behind: Arc::new(WriteBehindMetrics::register(&mut r, audit.clone())),
            store: Arc::new(StoreMetrics::register(&mut r)),
            journal: Arc::new(JournalMetrics::register(&mut r)),
            upstream: Arc::new(UpstreamMetrics::register(&mut r)),
            admin: Arc::new(AdminMetrics::register(&mut r)),
            app: Arc::new(AppMetrics::register(&mut r)),
            panics: Arc::new(PanicMetrics::register(&mut r)),
            audit,
            traces,
            registry: r.into_registry(),
        }
    }
}

impl Metrics {
    /// Shows what is counted of these mappings, and of no others any more.
    pub fn keep(&self, mappings: &[&str]) {
        for gone in self.mappings.keep(mappings) {
            self.owned.forget(&gone);
            self.cache.forget(&gone);
            self.shadow.forget(&gone);
            self.fallback.forget(&gone);
            self.write_behind.forget(&gone);
        }
    }

    /// All of them.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let mut text = String::with_capacity(64 * 1024);
        match (encode(&mut text, &self.registry), format) {
            (Ok(()), Format::OpenMetrics) => text,
            (Ok(()), Format::Prometheus) => text::prometheus(&text),
            (Err(error), _) => format!("# metrics could not be written: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Metrics, Outcome, RouteLabel, Tally};

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::default();
        let mut tally = Tally::default();
        tally.add(RouteLabel::Cache, Outcome::Hit, 3);
        tally.flush(&metrics.commands);
        tally.flush(&metrics.commands);
        metrics.owned.invalidated("change");
        let text = metrics.render(Format::Prometheus);
        assert!(text.contains("hearthside_commands_total{route=\"cache\",outcome=\"hit\"} 3"), "{text}");
        assert!(text.contains("hearthside_invalidations_total{reason=\"change\"} 1"), "{text}");
    }
}
