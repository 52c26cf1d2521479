//! What an operator sees of a cluster, and sets.

use super::before;
use crate::operations::reload::reload;
use crate::support::admin::{metric, request};
use crate::support::clusters::Cluster;
use crate::support::nodes::order;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

/// A sidecar that knows these nodes only.
fn knowing(ports: &[u16], cluster: &Cluster) -> Builder {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    before(cluster).set("UPSTREAM__URL", format!("redis+cluster://{}", hosts.join(",")))
}

/// A metric of one node.
fn of_node(sidecar: &Sidecar, name: &str, port: u16) -> f64 {
    metric(sidecar, &format!("hearthside_upstream_endpoint_{name}{{endpoint=\"redis://127.0.0.1:{port}\"}}"))
}

#[test]
fn one_node_is_enough_to_find_the_others_and_each_is_told_of() {
    let cluster = Cluster::start();
    let replica = cluster.replicas()[0];
    // Nobody is at the first address, and the second is not a master's.
    let sidecar = knowing(&[1, replica], &cluster).start();
    let mut wire = sidecar.wire();
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    }
    until("all slots are owned", || {
        cluster.masters().iter().map(|port| of_node(&sidecar, "slots", *port)).sum::<f64>() == 16384.0
    });
    for port in cluster.masters() {
        assert_eq!(of_node(&sidecar, "up", port), 1.0);
    }
    assert_eq!(of_node(&sidecar, "slots", replica), 0.0);
    let (_, told) = request(&sidecar, "GET", "/readyz?verbose");
    for port in &cluster.ports {
        assert!(told.contains(&format!("127.0.0.1:{port}")), "{told}");
    }
}

#[test]
fn a_master_that_is_away_is_told_of() {
    let mut cluster = Cluster::with(SERVERS[0], 0, &["--cluster-require-full-coverage", "no"]);
    let sidecar = before(&cluster).start();
    let masters = cluster.masters();
    until("it is up", || of_node(&sidecar, "up", masters[0]) == 1.0);
    cluster.kill(masters[0]);
    until("it is down", || of_node(&sidecar, "up", masters[0]) == 0.0);
    assert_eq!(of_node(&sidecar, "up", masters[1]), 1.0);
    let (_, told) = request(&sidecar, "GET", "/readyz?verbose");
    let line = told.lines().find(|line| line.contains(&format!("127.0.0.1:{}", masters[0]))).expect("its line");
    assert!(line.contains("does not answer"), "{told}");
    cluster.launch(masters[0]);
    until("it is up again", || of_node(&sidecar, "up", masters[0]) == 1.0);
}

#[test]
fn check_tells_which_nodes_do_not_answer_and_which_slots_are_nobodys() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let check = |builder: Builder| {
        let done = builder.execute(&["check", "--connect"]);
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let masters = cluster.masters();
    let (is_well, told) = check(knowing(&[1, masters[0]], &cluster));
    assert!(is_well && told.contains("the node 127.0.0.1:1"), "{told}");
    order(masters[0], "CLUSTER DELSLOTS 7");
    let (_, told) = check(knowing(&[masters[0]], &cluster));
    assert!(told.contains("1 slots have no owner"), "{told}");
    let alone = Redis::start();
    let (is_well, told) = check(knowing(&[alone.port], &cluster));
    assert!(!is_well && told.contains("cluster support disabled"), "{told}");
}

#[test]
fn check_tells_of_a_database_that_there_is_not() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    for (url, why) in [
        (cluster.url() + "/2", "SELECT is not allowed in cluster mode"),
        (format!("redis://127.0.0.1:{}/16", alone.port), "out of range"),
    ] {
        let done = before(&cluster).set("UPSTREAM__URL", url).execute(&["check", "--connect"]);
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && told.contains("of upstream.url cannot be selected"), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn nodes_are_told_of_before_and_after_they_answer() {
    let mut cluster = Cluster::with(SERVERS[0], 0, &[]);
    let masters = cluster.masters();
    cluster.hang(masters[0]);
    let mut sidecar = knowing(&masters[..1], &cluster).spawn();
    sidecar.wait_ready();
    let lines = || request(&sidecar, "GET", "/readyz?verbose").1;
    let state = |port: u16, state: &str| lines().contains(&format!("upstream redis://127.0.0.1:{port}: {state}"));
    assert!(state(masters[0], "does not answer"), "{}", lines());
    cluster.wake(masters[0]);
    until("all are up", || masters.iter().all(|port| state(*port, "up")));
    masters.iter().for_each(|port| cluster.kill(*port));
    until("all are away", || masters.iter().all(|port| state(*port, "does not answer")));
    masters.iter().for_each(|port| cluster.launch(*port));
    until("all are up again", || masters.iter().all(|port| state(*port, "up")));
}

/// The shipped configuration with this upstream.
pub(super) fn config(url: &str) -> String {
    hearthside::config::SHIPPED.replace("[upstream]\nurl = \"\"", &format!("[upstream]\nurl = \"{url}\""))
}

#[test]
fn a_reload_leads_from_one_server_to_a_cluster_and_back() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    let silent = [warnings::NODE_SILENT, warnings::NODE_FAILED];
    let builder = Sidecar::builder().config(&config(&alone.url())).expect(warnings::UPSTREAM_AWAY).expect(&silent);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let key = cluster.key_of(cluster.masters()[2]);
    for url in [cluster.url(), alone.url(), cluster.url()] {
        reload(&sidecar, &config(&url));
        let place = if url.contains("cluster") { cluster.masters()[2] } else { alone.port };
        until("it is written there", || {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            crate::support::wire::Wire::tcp(place).ask(&format!("DEL {key}")) == ":1\r\n"
        });
    }
}

#[test]
fn nodes_may_want_a_login() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let keys = cluster.key_of_each();
    cluster.ports.iter().for_each(|port| order(*port, "CONFIG SET requirepass secret"));
    let url = cluster.url().replace("//", "//:secret@");
    let sidecar = before(&cluster).set("UPSTREAM__URL", url).start();
    let mut wire = sidecar.wire();
    for key in keys {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    }
    assert!(!sidecar.log().contains("secret"));
}
