//! Nodes that have host names, beside their addresses.

use super::before;
use crate::support::certificates::{Authority, Signed};
use crate::support::clusters::{Cluster, node_alone};
use crate::support::nodes::{order, slot_of};
use crate::support::redis::SERVERS;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, line};
use crate::support::{free_port, until, warnings};

const NAMED: [&str; 4] = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];

/// How often somebody has asked this node who owns what.
fn questions(port: u16) -> u64 {
    let stats = Wire::tcp(port).ask("INFO commandstats");
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|nodes:calls=")?.split(',').next());
    calls.and_then(|calls| calls.parse().ok()).unwrap_or_default()
}

#[test]
fn a_node_that_is_called_by_its_name_is_the_one_that_is_known() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &NAMED);
        let sidecar = before(&cluster).start();
        let (mut waiting, mut wire) = (sidecar.wire(), sidecar.wire());
        let [a, b, _] = cluster.masters()[..] else { panic!("three masters") };
        let key = cluster.key_of(a);
        let slot = slot_of(&key);
        let on = cluster.begin_move(slot, b);
        assert!(Wire::tcp(a).ask(&format!("GET {key}")).contains("localhost"), "ASK gives the name");
        // It waits where the slot is to be.
        waiting.send(&line(&format!("BLPOP {key} 0")));
        until("it waits there", || Wire::tcp(b).ask("INFO clients").contains("blocked_clients:1"));
        for _ in 0..50 {
            assert_eq!(wire.ask(&format!("GET {key}")), "$-1\r\n");
        }
        // Longer than a connection to a node that is gone is kept.
        let begun = questions(b);
        until("the node has been asked again", || questions(b) > begun + 4);
        assert!(Wire::tcp(b).ask("INFO clients").contains("blocked_clients:1"), "it waits on");
        cluster.finish_move(on);
        assert_eq!(wire.ask(&format!("RPUSH {key} x")), ":1\r\n");
        assert!(waiting.frame().ends_with(b"x\r\n"));
        let log = sidecar.log();
        assert!(!log.contains("a node is not of the cluster any more"), "{log}");
        let (_, told) = crate::support::admin::request(&sidecar, "GET", "/readyz?verbose");
        assert!(!told.contains("localhost"), "each has one line: {told}");
    }
}

#[test]
fn nodes_that_speak_tls_are_called_by_the_names_of_their_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let Signed { certificate, key } = authority.sign(folder.path(), "server");
    let port = free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let files = ["--tls-ca-cert-file", &authority.file, "--tls-auth-clients", "no", "--tls-cluster", "yes"];
    let named = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-hostname", "localhost"];
    let node = node_alone(&[&tls[..], &files, &named].concat());
    order(node.port, "CLUSTER ADDSLOTSRANGE 0 16383");
    until("it serves", || node.wire().ask("CLUSTER INFO").contains("cluster_state:ok"));
    let url = format!("rediss+cluster://localhost:{port}");
    let builder = Sidecar::builder().set("UPSTREAM__URL", url).set("UPSTREAM__CA_FILE", &authority.file);
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).expect(&[warnings::NODE_SILENT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert!(!sidecar.log().contains("certificate"), "{}", sidecar.log());
}
