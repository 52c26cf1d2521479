//! The commands that the upstream does not permit to the sidecar's own user. The sidecar does without their answers,
//! and reports them to operators.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Labels of `hearthside_upstream_unasked`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ForbiddenLabel {
    /// The command.
    pub command: &'static str,
}

/// The commands that were refused when they were last tried.
#[derive(Debug)]
pub struct ForbiddenCommands {
    family: Family<ForbiddenLabel, Gauge>,
    list: Mutex<BTreeSet<&'static str>>,
}

impl ForbiddenCommands {
    pub(super) fn new(family: Family<ForbiddenLabel, Gauge>) -> Self {
        Self { family, list: Mutex::default() }
    }

    /// Notes whether `command` was refused.
    pub fn note(&self, command: &'static str, is_refused: bool) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = if is_refused { list.insert(command) } else { list.remove(command) };
        if !has_changed {
            return;
        }
        self.family.get_or_create(&ForbiddenLabel { command }).set(i64::from(is_refused));
        if is_refused {
            tracing::warn!(
                command,
                "the user of upstream.url may not run this command at the upstream; the sidecar does without its answer"
            );
        }
    }

    /// The commands that are refused.
    #[must_use]
    pub fn list(&self) -> Vec<&'static str> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
