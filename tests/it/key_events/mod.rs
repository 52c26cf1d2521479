//! Keyspace notifications of owned keys: what is told, in which order, to whom, and when.

mod changes;
mod expired;
mod fields;
mod listener;
mod modes;
mod place;
mod random;
mod subscribers;
mod verbs;
