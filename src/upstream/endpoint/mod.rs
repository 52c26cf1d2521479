//! Where the upstream is, whether it can be reached, and how a connection to it is opened. Knows nothing of clients or requests.

pub(super) mod circuit;
pub(super) mod connect;
pub(super) mod health;
pub(super) mod location;
pub(super) mod private_server;
pub(super) mod stream;
pub(super) mod target;
