//! Owned keys that are read: definitions and cached keys, how they are loaded, and what a change in the store does to
//! them.

mod changes;
mod definitions;
mod floods;
mod herd;
mod idle;
mod listing;
mod reads;
mod refreshes;
mod shared_loads;
mod slow_keys;
mod staleness;
mod verifier;
