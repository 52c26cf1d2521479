//! Reads from replicas (`upstream.read_from`), of several plain servers, behind sentinels, and in a cluster.

mod asked;
mod behind;
mod cluster;
mod moves;
mod redirected;
mod sentinel;

use std::thread::sleep;
use std::time::Duration;

use crate::support::admin::metric;
use crate::support::redis::{Redis, Server};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// How far replicas may be behind in these tests.
const LAG: Duration = Duration::from_millis(400);

/// A replica of the server on this port.
pub fn replica_of(server: Server, port: u16, arguments: &[&str]) -> Redis {
    let place = format!("127.0.0.1 {port}");
    Redis::of(server, &[&["--replicaof", &place, "--repl-diskless-sync-delay", "0"], arguments].concat())
}

/// `redis://` with all of them.
pub fn url(servers: &[&Redis]) -> String {
    let hosts: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    format!("redis://{}", hosts.join(","))
}

/// A sidecar that reads keys of pages from replicas.
fn reading(url: String) -> Builder {
    Sidecar::builder()
        .set("UPSTREAM__URL", url)
        .set("UPSTREAM__READ_FROM", "replica")
        .set("UPSTREAM__READ_KEYS", "page:*,{page:*")
        .set("UPSTREAM__READ_LAG", format!("{}ms", LAG.as_millis()))
        .expect(warnings::UPSTREAM_AWAY)
        .expect(&[warnings::REPLICA_SILENT])
}

/// Waits until reads may go to the server on this port, or until they may not.
fn is_read(sidecar: &Sidecar, port: u16, is_read: bool) {
    let name = format!("hearthside_upstream_endpoint_read{{endpoint=\"redis://127.0.0.1:{port}\"}}");
    until("a replica is read, or left", || metric(sidecar, &name) == f64::from(u8::from(is_read)));
}

/// How often a command was executed by the server on this port.
fn calls(port: u16, command: &str) -> u64 {
    let stats = Wire::tcp(port).ask("INFO commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// So long nothing has been written.
fn pass(time: Duration) {
    sleep(time + Duration::from_millis(10));
}
