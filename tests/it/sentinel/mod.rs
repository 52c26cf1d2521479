//! An upstream that sentinels watch over (`redis+sentinel://`).

mod failover;
mod finding;

use crate::support::sentinels::Group;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

/// A sidecar whose upstream is the master of the group.
fn before(group: &Group) -> Builder {
    Sidecar::builder().set("UPSTREAM__URL", group.url()).expect(warnings::UPSTREAM_AWAY).expect(&[
        warnings::SENTINEL_SILENT,
        warnings::SENTINELS_SILENT,
        warnings::SHARED_SUBSCRIBER_DOWN,
    ])
}
