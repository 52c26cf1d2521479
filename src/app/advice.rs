//! What works otherwise than somebody may expect: writes, for somebody who knows Redis, and settings that keep each
//! other from their purpose. It is said by `hearthside check` alone: a sidecar that runs so may well be meant to.

use std::time::Duration;

use crate::config::{DeleteMode, Faults, Settings, Shape};
use crate::mapping::{Kind, Mappings};

const NOT_DELETED: &str = "commands write the rows of this mapping, and DEL deletes none: it answers 1 for a key in \
    memory, and the next read finds the row again; write delete = \"row\", or delete = \"invalidate\" if it is meant";

const NOT_ENDED: &str = "commands write the rows of this mapping, and a TTL (EXPIRE, SET ... EX) is only how long \
    memory keeps the key: its row stays; name a timestamp column, if keys are to end, or write \
    expires_column = \"\" if it is meant";

const NOT_PROVEN: &str = "is shorter than store.heartbeat_interval: the change feed vouches for less than the time \
    between two heartbeats, so that keys of this age are loaded again although it is up; make it longer, or the \
    heartbeats more frequent";

/// Adds a warning for each.
pub(super) fn advise(settings: &Settings, mappings: &Mappings, faults: &mut Faults) {
    on_writes(mappings, faults);
    let is_too_short = |staleness: &Duration| *staleness < settings.store.heartbeat_interval;
    let caches = mappings.list.iter().filter(|mapping| mapping.kind == Kind::Cache).map(|mapping| &mapping.config);
    if settings.store.url.starts_with("sqlite:") || caches.clone().next().is_none() {
        return;
    }
    if is_too_short(&settings.cache.max_staleness) {
        faults.doubt("cache.max_staleness", NOT_PROVEN);
    }
    for block in caches.filter(|block| block.max_staleness.as_ref().is_some_and(is_too_short)) {
        faults.doubt(format!("{}.max_staleness", block.path), NOT_PROVEN);
    }
}

fn on_writes(mappings: &Mappings, faults: &mut Faults) {
    for block in mappings.list.iter().map(|mapping| &mapping.config).filter(|block| block.writes_table()) {
        let delete = format!("{}.delete", block.path);
        if block.delete != DeleteMode::Row && !faults.is_written(&delete) {
            faults.doubt(delete, NOT_DELETED);
        }
        let expires = format!("{}.expires_column", block.path);
        let may_end = matches!(block.shape, Shape::Hash | Shape::String);
        if may_end && block.expires_column.is_none() && !faults.is_written(&expires) {
            faults.doubt(expires, NOT_ENDED);
        }
    }
}
