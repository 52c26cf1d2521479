//! Bugs that can be planted to prove that the tests find them, and that a panic is survived: `scripts/mutants`,
//! `tests/it/operations/panics.rs`. Only a build with debug assertions has them; a release has none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The bug that `HEARTHSIDE_PLANTED` names; empty: none.
static BUG: OnceLock<String> = OnceLock::new();

/// True when `bug` is planted (`HEARTHSIDE_PLANTED`), in a build for that purpose.
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    cfg!(debug_assertions) && BUG.get_or_init(|| std::env::var("HEARTHSIDE_PLANTED").unwrap_or_default()) == bug
}

/// The same of a bug that strikes once: true for whoever asks first.
#[must_use]
pub fn is_planted_once(bug: &str) -> bool {
    static HAS_STRUCK: AtomicBool = AtomicBool::new(false);
    is_planted(bug) && !HAS_STRUCK.swap(true, SeqCst)
}
