//! The publication by which Postgres tells of changes where `store.feed` reads its log: what each table needs to be
//! told of (`coverage`), and what `hearthside triggers --install` makes of it (`install`). Nothing here knows the
//! stream.

mod coverage;
mod install;

pub(super) use coverage::{missing, missing_of};
pub(super) use install::install;
pub use install::script;
