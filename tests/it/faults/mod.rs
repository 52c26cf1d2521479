//! Faults that are real, each under load: `trial.rs` says what is demanded of every one of them.

mod clients;
pub mod load;
mod process;
mod soak;
mod store;
mod storm;
mod table;
mod trial;
mod upstream;
