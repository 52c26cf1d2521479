//! CLIENT TRACKING on owned keys: who is told of what, when, and how often.

mod cast;
mod changes;
mod crowd;
mod library;
mod place;
mod room;
mod said;
mod stories;
mod whole;
