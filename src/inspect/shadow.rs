//! In what the upstream and the store differ, of mappings in the mode `shadow`.

use serde::Serialize;

use super::subject::Subject;
use super::times;

/// One field of a key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct MismatchFacts {
    pub mapping: String,
    pub key: String,
    pub field: String,
    pub difference: String,
    pub at: String,
}

impl Subject {
    /// The last that were found, of this mapping or of all, the newest first.
    #[must_use]
    pub fn mismatches(&self, mapping: Option<&str>) -> Vec<MismatchFacts> {
        let found = self.metrics.shadow.last().into_iter();
        let meant = found.filter(|it| mapping.is_none_or(|mapping| mapping == it.mapping));
        meant
            .map(|it| MismatchFacts {
                mapping: it.mapping,
                key: String::from_utf8_lossy(&it.key).into_owned(),
                field: it.field,
                difference: it.words,
                at: times::shown(it.at),
            })
            .collect()
    }
}
