//! Clients: listeners, worker threads, and the loop that serves one connection.

mod admission;
mod alone;
mod bell;
mod client;
mod edition;
mod held;
mod huge;
mod link;
mod listen;
mod output;
mod reaper;
mod replies;
mod restore;
mod revoke;
mod run;
mod slice;
mod socket;
mod tls;
mod transacting;
mod waiting;
mod worker;

pub use edition::Edition;
pub use listen::{Listener, bind};
pub use tls::server_config;
pub use worker::{Setup, Workers};
