//! Clients: listeners, worker threads, and the loop that serves one connection.

mod admission;
mod alone;
mod client;
mod held;
mod huge;
mod link;
mod listen;
mod output;
mod replies;
mod run;
mod slice;
mod worker;

pub use listen::{Listener, bind};
pub use worker::{Setup, Workers};
