//! How requests of many clients travel over few connections, and how the replies find their way back, in order.

pub(super) mod account;
pub(super) mod arrivals;
pub(super) mod batch;
mod client_window;
pub(super) mod cluster;
pub(super) mod connection;
mod driver;
mod driving;
pub(super) mod flight;
pub(super) mod inbox;
pub(super) mod lane;
pub(super) mod lane_ticket;
pub(super) mod lane_waker;
pub(super) mod lanes;
pub(super) mod monitor_lines;
pub(super) mod queue;
pub(super) mod server_lane;
pub(super) mod servers;
pub(super) mod subscriptions;
pub(super) mod ticket;
pub(super) mod window;
