//! What is counted where the upstream is asked for keys that the store has not (`mode = "fallback"`).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookLabel {
    mapping: String,
    outcome: &'static str,
}

/// Who had a key that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FellBack {
    /// The store.
    Store,
    /// The upstream alone, and it answered.
    Upstream,
    /// Nobody.
    Neither,
    /// The upstream alone, and it was brought into the store.
    Brought,
    /// The upstream alone, and it could not be brought into the store.
    Refused,
}

impl FellBack {
    const ALL: [Self; 5] = [Self::Store, Self::Upstream, Self::Neither, Self::Brought, Self::Refused];

    const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Upstream => "upstream",
            Self::Neither => "neither",
            Self::Brought => "brought",
            Self::Refused => "refused",
        }
    }
}

/// Of keys that were looked for on both sides.
#[derive(Debug)]
pub struct FallbackMetrics(Family<LookLabel, Counter>);

impl FallbackMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self(r.family(
            "fallback",
            "Keys that were looked for, of mappings with mode = \"fallback\", by who had them (store; upstream; \
             neither; brought: the upstream, and it was brought into the store; refused: the upstream, and it could \
             not be)",
        ))
    }

    /// Shows what is counted of a mapping, before anything was.
    pub fn show(&self, mapping: &str) {
        FellBack::ALL.into_iter().for_each(|outcome| drop(self.counter(mapping, outcome)));
    }

    /// Shows a mapping no more, which a reload has taken away.
    pub fn forget(&self, mapping: &str) {
        for outcome in FellBack::ALL {
            self.0.remove(&LookLabel { mapping: mapping.to_owned(), outcome: outcome.name() });
        }
    }

    fn counter(&self, mapping: &str, outcome: FellBack) -> Counter {
        self.0.get_or_create_owned(&LookLabel { mapping: mapping.to_owned(), outcome: outcome.name() })
    }

    /// A key of this mapping was looked for.
    pub fn looked(&self, mapping: &str, outcome: FellBack) {
        self.counter(mapping, outcome).inc();
    }
}
