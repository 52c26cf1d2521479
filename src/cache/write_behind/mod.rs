//! Write-behind: writes that are acknowledged when they are in the journal, lie over every record until the store has them, and
//! are saved many at a time.

pub(super) mod deferred;
pub(super) mod deferred_transaction;
pub(super) mod expiry;
pub(super) mod fenced;
pub(super) mod flush;
pub(super) mod overlay;
pub(super) mod told;
