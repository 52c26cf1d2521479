//! What spans are called, but for those of commands. "Traces" in docs/OPERATIONS.md has them all.

pub(super) const COMMIT: &str = "COMMIT";
pub(super) const DELETE: &str = "DELETE";
pub(super) const FLUSH: &str = "flush";
pub(super) const INSERT: &str = "INSERT";
pub(super) const JOURNAL: &str = "journal";
pub(super) const LOAD: &str = "load";
pub(super) const PIPELINE: &str = "PIPELINE";
pub(super) const REDIRECTED: &str = "redirected";
pub(super) const SELECT: &str = "SELECT";
pub(super) const STATEMENTS: &str = "transaction statements";
pub(super) const UPSERT: &str = "UPSERT";
pub(super) const UPSTREAM: &str = "upstream";
pub(super) const WAIT: &str = "wait for the store";
