//! CLIENT TRACKING on owned keys: who is told of what, when, and how often.

mod changes;
mod crowd;
mod place;
mod room;
mod stories;
mod whole;
