//! Pass-through keys that are kept in memory (`[[near]]`): what is answered from there, and what ends it.

mod changes;
mod fences;
mod gaps;
mod generated;
mod places;
mod reads;
mod settings;
mod told;

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

/// Keys of these tests, whose replies are kept until something ends that.
const NEAR: &str = "[[near]]\nkeys = \"cfg:*\"\nttl = \"1h\"\n";

/// A sidecar that keeps what is read at this upstream.
fn keeping(url: &str) -> Builder {
    Sidecar::builder().config(NEAR).set("UPSTREAM__URL", url).set("SERVER__WORKERS", "2")
}

/// Waits until the upstream tells what changes.
fn told(sidecar: &Sidecar) {
    until("the upstream tells what changes", || metric(sidecar, "hearthside_near_up") == 1.0);
}

/// A sidecar that keeps what it reads.
fn started(redis: &Redis) -> Sidecar {
    let sidecar = keeping(&redis.url()).start();
    told(&sidecar);
    sidecar
}

fn hits(sidecar: &Sidecar) -> u64 {
    metric(sidecar, "hearthside_near_hits_total{keys=\"cfg:*\"}") as u64
}

/// Reads until the reply is kept, which it is then.
fn keep(sidecar: &Sidecar, wire: &mut Wire, read: &str) -> String {
    let before = hits(sidecar);
    let mut reply = wire.ask(read);
    until("it is kept", || {
        reply = wire.ask(read);
        hits(sidecar) > before
    });
    reply
}

/// A bulk string.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Another client than the one before: clients take turns at the worker threads.
fn two(sidecar: &Sidecar) -> [Wire; 2] {
    [sidecar.wire(), sidecar.wire()]
}
