//! What is in memory: entries and how long they live, what each thread was given lately, the loads in flight, and how far the
//! change feed vouches for all of it.

pub(super) mod entries;
pub(super) mod entry;
pub(super) mod feed;
pub(super) mod handover;
pub(super) mod loads;
pub(super) mod thread_cache;
