//! Commands that write owned keys, through to the store.

mod exec;
mod fill;
mod model;
mod refused;
mod seen;
