//! A Redis Cluster behind one plain port (`redis+cluster://`).

mod fanout;
mod fanout_nodes;
mod fanout_scan;
mod pubsub;
mod tracking;

use crate::support::clusters::Cluster;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

/// A sidecar whose upstream is the cluster.
fn before(cluster: &Cluster) -> Builder {
    Sidecar::builder().set("UPSTREAM__URL", cluster.url()).expect(warnings::UPSTREAM_AWAY)
}
