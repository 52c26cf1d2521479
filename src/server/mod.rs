//! Clients: listeners, worker threads, and the loop that serves one connection.

mod alone;
mod client;
mod link;
mod listen;
mod replies;
mod run;
mod subscribed;
mod worker;

pub use listen::{Listener, bind};
pub use worker::{Setup, Workers};
