//! A Redis Cluster behind one plain port (`redis+cluster://`).

mod becomes;
mod blocking;
mod cache;
mod elsewhere;
mod everybody;
mod failover;
mod fanout;
mod fanout_nodes;
mod fanout_scan;
mod names;
mod nodes;
mod one;
mod operator;
mod own_connection;
mod pubsub;
mod slots;
mod storm;
mod strangers;
mod streamed;
mod tracking;
mod transactions;
mod unowned;
mod unsettled;
mod users;

use crate::support::clusters::Cluster;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

/// A sidecar whose upstream is the cluster.
fn before(cluster: &Cluster) -> Builder {
    let builder = Sidecar::builder().set("UPSTREAM__URL", cluster.url()).expect(warnings::UPSTREAM_AWAY);
    builder.expect(&[warnings::NODE_SILENT, warnings::NODE_FAILED, warnings::SLOTS_UNOWNED])
}
