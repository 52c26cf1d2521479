//! Commands that write owned keys, through to the store.

mod aside;
mod checked;
mod copies;
mod damaged;
mod deferred;
pub mod embedded;
mod ends;
mod exec;
mod fences;
mod fill;
mod halves;
mod journals;
mod late;
pub mod model;
mod moved;
mod neighbours;
mod outliving;
mod place;
mod power;
mod refused;
mod seen;
mod settled;
mod short;
mod told;
mod unsavable;
mod watched;
mod zones;
