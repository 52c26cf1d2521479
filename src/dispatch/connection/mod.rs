//! Commands about the client's own connection: who it is, what it speaks, what it is subscribed to, and what it keeps.

pub(super) mod client;
pub(super) mod dedicated;
pub(super) mod hello;
pub(super) mod local;
pub(super) mod subscribe;
