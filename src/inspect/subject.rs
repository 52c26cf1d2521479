//! The sidecar that is looked at.

use std::sync::Arc;

use crate::cache::Cache;
use crate::clients::Registry;
use crate::definitions::Definitions;
use crate::mapping::{Mappings, Modes};
use crate::near::Near;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::telemetry::clock::{Tick, UnixMs};
use crate::upstream::Endpoint;

/// The parts that are looked at.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The program, and the configuration in force.
    pub about: Arc<About>,
    /// The mappings in force.
    pub mappings: Arc<Mappings>,
    /// Their modes.
    pub modes: Arc<Modes>,
    /// Their definitions.
    pub definitions: Arc<Definitions>,
    /// Their cached keys.
    pub cache: Cache,
    /// Where both are from.
    pub store: Arc<Store>,
    /// Where everything else goes.
    pub upstream: Arc<Endpoint>,
    /// What of it is kept in memory, if something is.
    pub near: Option<Arc<Near>>,
    /// Who is connected.
    pub clients: Arc<Registry>,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
}

impl Subject {
    /// The same, whose mappings are in these modes.
    #[must_use]
    pub fn in_modes(self, modes: Arc<Modes>) -> Self {
        Self { modes, ..self }
    }

    /// The same, which keeps this.
    #[must_use]
    pub fn with_near(self, near: Option<Arc<Near>>) -> Self {
        Self { near, ..self }
    }
}

/// The program, and one reading of its configuration.
#[derive(Clone, Debug)]
pub struct About {
    /// The file, or what was read instead of one.
    pub config: String,
    /// When it was read.
    pub read_at: UnixMs,
    /// `limits.clients`.
    pub most_clients: usize,
    /// `journal.max_bytes`.
    pub most_journal: usize,
}

impl About {
    /// A reading of now.
    #[must_use]
    pub fn read_now(config: &str, most_clients: usize, most_journal: usize) -> Self {
        Self { config: config.to_owned(), read_at: UnixMs::now(), most_clients, most_journal }
    }

    /// The commit that the program was built from, where whoever built it said so.
    #[must_use]
    pub fn commit() -> Option<&'static str> {
        option_env!("HEARTHSIDE_COMMIT").filter(|commit| !commit.is_empty())
    }

    /// When the process began.
    #[must_use]
    pub fn started() -> UnixMs {
        let age = i64::try_from(Tick::now().as_ms()).unwrap_or(i64::MAX);
        UnixMs::now().plus(-age)
    }
}
