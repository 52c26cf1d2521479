//! Clients: listeners, worker threads, and the loop that serves one connection.

mod admission;
mod broadcast;
mod client;
mod edition;
mod listen;
mod reaper;
mod socket;
mod tls;
mod worker;

pub use edition::Edition;
pub use listen::{Listener, bind};
pub use tls::server_config;
pub use worker::{Setup, Workers};
