//! One part is away, silent, or lacks something: what is still served, and that every wait ends.

mod answers;
mod ended;
mod endings;
mod isolation;
mod lacks;
mod locked;
mod locked_flushes;
mod poolers;
mod questions;
mod reasons;
mod reloaded_doubts;
mod reloaded_flushes;
mod sessions;
mod shares;
pub mod standby;
mod startup;
mod store;
mod told;
mod upstream;
mod verified_upstream;
mod waiting;
