//! What of writes works otherwise than somebody expects who knows Redis. It is said by `hearthside check` alone: a
//! sidecar that runs so may well be meant to.

use crate::config::{DeleteMode, Faults, Shape};
use crate::mapping::Mappings;

const NOT_DELETED: &str = "commands write the rows of this mapping, and DEL deletes none: it answers 1 for a key in \
    memory, and the next read finds the row again; write delete = \"row\", or delete = \"invalidate\" if it is meant";

const NOT_ENDED: &str = "commands write the rows of this mapping, and a TTL (EXPIRE, SET ... EX) is only how long \
    memory keeps the key: its row stays; name a timestamp column, if keys are to end";

/// Adds a warning for each.
pub(super) fn advise(mappings: &Mappings, faults: &mut Faults) {
    for block in mappings.list.iter().map(|mapping| &mapping.config).filter(|block| block.writes_table()) {
        let delete = format!("{}.delete", block.path);
        if block.delete != DeleteMode::Row && !faults.is_written(&delete) {
            faults.doubt(delete, NOT_DELETED);
        }
        if block.expires_column.is_none() && matches!(block.shape, Shape::Hash | Shape::String) {
            faults.doubt(format!("{}.expires_column", block.path), NOT_ENDED);
        }
    }
}
