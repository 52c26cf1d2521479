//! What the upstream answers: lanes that clients share, and connections that are lent to one of them.

mod blocking;
mod connection_state;
mod ended;
mod lanes;
mod learned;
mod logins;
mod monitored;
mod odd;
mod pings;
mod redirected;
mod replicas;
mod seen;
mod shared_pubsub;
mod tracked_again;
mod turns;
mod whole_transactions;
