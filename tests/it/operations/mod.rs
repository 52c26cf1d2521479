//! What an operator sees and does: the command line, probes, metrics, signals, reloads, a fresh machine.

mod addresses;
mod at_night;
mod audit;
mod audit_hostile;
mod commandline;
mod embedded;
mod explained;
mod hostile;
mod looks;
mod overtaken;
// A release has no bugs that can be planted.
#[cfg(debug_assertions)]
mod panics;
mod paused;
mod probes;
pub mod reload;
mod store_file;
mod strangers;
mod takeover;
mod topologies;
mod warm;
mod warm_troubles;
