//! What is counted of parts of the sidecar that ended in a panic.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;
use crate::telemetry::lasting_part::LastingPart;

/// The label of what is counted by part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartLabel {
    part: &'static str,
}

/// Of all parts.
#[derive(Debug)]
pub struct PanicMetrics {
    parts: Family<PartLabel, Counter>,
}

impl PanicMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        let parts = r.family_of(
            "part_panics",
            "Times that a part of the sidecar which is to go on as long as it runs ended in a panic, by part: a bug. \
             Alarm on it",
            LastingPart::all().map(label),
        );
        Self { parts }
    }

    /// Counts a panic of a part.
    pub fn panicked(&self, part: LastingPart) {
        self.parts.get_or_create(&label(part)).inc();
    }

    /// How often a part has ended in a panic.
    #[must_use]
    pub fn count(&self, part: LastingPart) -> u64 {
        self.parts.get_or_create(&label(part)).get()
    }
}

fn label(part: LastingPart) -> PartLabel {
    PartLabel { part: part.name() }
}
