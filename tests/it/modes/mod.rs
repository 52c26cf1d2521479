//! Modes of mappings: who answers for a key, and how that changes under clients.

mod changes;
mod crowd;
mod fallback;
mod feed;
mod mirror;
mod mirror_faults;
mod orders;
mod place;
mod plain;
mod settled;
mod shadow;
mod way_back;
