//! Clients: listeners, worker threads, and the loop that serves one connection.

mod admission;
mod broadcast;
mod client;
mod edition;
mod listen;
mod newcomers;
mod passed;
mod reaper;
mod socket;
mod socket_file;
mod tls;
mod worker;

pub use edition::Edition;
pub use listen::{Listener, bind, bind_admin};
pub use passed::Passed;
pub use tls::server_config;
pub use worker::{Setup, Workers};
