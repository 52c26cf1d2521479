//! An upstream whose user may not do all that is asked of it: `check --connect` and the import say what could not be
//! looked at, why, and which rule permits it.

use super::tables::{Said, Tables};
use crate::support::clusters::Cluster;
use crate::support::nodes::order;
use crate::support::redis::{Redis, Server};
use crate::support::wire::Wire;

/// The URL of the upstream as this user.
fn as_user(url: &str, rules: &str, ports: &[u16]) -> String {
    ports.iter().for_each(|port| order(*port, &format!("ACL SETUSER few reset on >secret ~* &* +@all {rules}")));
    url.replace("://", "://few:secret@")
}

/// What is said of the upstream.
fn of_upstream(told: &Said) -> Vec<&str> {
    told.err.lines().filter(|line| line.contains("upstream")).collect()
}

fn one_line(told: &Said, parts: &[&str]) {
    let lines: Vec<&str> = of_upstream(told).into_iter().filter(|line| line.contains(parts[0])).collect();
    let [line] = lines[..] else { panic!("one line about {:?}: {}{}", parts[0], told.out, told.err) };
    parts.iter().for_each(|part| assert!(line.contains(part), "{part}: {line}"));
    assert!(!told.err.contains("NOPERM"), "it is said in words: {}", told.err);
}

/// A mapping whose table is not there: the store is asked all the same.
fn faulty(tables: &Tables) -> String {
    tables.config().replace("table = \"strings\"", "table = \"no_such_table\"")
}

#[test]
fn what_a_server_does_not_permit_is_named_and_the_rest_is_checked() {
    let (tables, redis) = (Tables::sqlite(), Redis::start());
    let mut wire = redis.wire();
    wire.ask("HSET p:1 f a");
    wire.ask("SELECT 3");
    wire.ask("HSET p:2 f a");
    let check = |rules: &str, config: &str| -> Said {
        let url = as_user(&redis.url(), rules, &[redis.port]);
        tables.builder(&url).config(config).execute(&["check", "--connect"]).into()
    };
    let told = check("-keys", &tables.config());
    assert_eq!(told.code, Some(0), "KEYS is not needed: {}", told.err);
    assert!(told.err.contains("1 key of the upstream are hidden") && !told.err.contains("permit"), "{}", told.err);
    let told = check("-scan", &faulty(&tables));
    one_line(&told, &["the keys that mappings hide cannot be counted", "may not run SCAN", "permit it with +scan "]);
    assert!(told.err.contains("keys of other databases are not looked at"), "{}", told.err);
    assert!(told.err.contains("no_such_table") && told.code != Some(0), "{}", told.err);
}

#[test]
fn what_a_cluster_does_not_permit_is_named_and_the_rest_is_checked() {
    let (tables, cluster) = (Tables::sqlite(), Cluster::with(Server::Installed, 0, &[]));
    for port in cluster.masters() {
        // Each takes those that are its own.
        (0..30).for_each(|id| drop(Wire::tcp(port).ask(&format!("HSET h:{id} f a"))));
    }
    let check = |rules: &str, config: &str| -> Said {
        let url = as_user(&cluster.url(), rules, &cluster.ports);
        tables.builder(&url).config(config).execute(&["check", "--connect"]).into()
    };
    let told = check("-keys", &tables.config());
    assert!(told.code == Some(0) && !told.err.contains("permit"), "{}", told.err);
    let told = check("-scan", &tables.config());
    one_line(&told, &["the keys that mappings hide cannot be counted", "may not run SCAN", "permit it with +scan "]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let told = check("-cluster|getkeysinslot", &tables.config());
    one_line(
        &told,
        &["KEYS and SCAN of clients fail while slots", "CLUSTER GETKEYSINSLOT", "with +cluster|getkeysinslot "],
    );
    assert!(told.code == Some(0) && told.err.contains("30 keys of the upstream are hidden"), "{}", told.err);
    let told = check("-cluster|nodes", &faulty(&tables));
    one_line(&told, &["which node of", "cannot be looked at", "may not run CLUSTER NODES", "with +cluster|nodes "]);
    assert_eq!(of_upstream(&told).len(), 1, "{}", told.err);
    assert!(told.err.contains("no_such_table") && told.code != Some(0), "{}", told.err);
}

#[test]
fn an_import_that_is_not_permitted_ends_at_once_with_the_rule() {
    let (tables, cluster) = (Tables::sqlite(), Cluster::with(Server::Installed, 0, &[]));
    cluster.masters().into_iter().for_each(|port| drop(Wire::tcp(port).ask("HSET p:7 f a")));
    let import = |rules: &str| -> Said {
        let url = as_user(&cluster.url(), rules, &cluster.ports);
        tables.builder(&url).execute(&["import", "p:{id:int}"]).into()
    };
    for (rules, expected) in [
        ("-cluster|nodes", "may not run CLUSTER NODES: permit it with +cluster|nodes (ACL SETUSER); run it again"),
        ("-scan", "may not run SCAN: permit it with +scan (ACL SETUSER); run it again"),
        ("-hgetall", "may not run HGETALL: permit it with +hgetall (ACL SETUSER); run it again"),
        ("resetkeys ~other", "permit it the keys of the mapping with ~ and their pattern (ACL SETUSER); run it again"),
    ] {
        let told = import(rules);
        assert!(told.code == Some(1) && told.out.contains(expected), "{rules}: {}{}", told.out, told.err);
        assert!(!told.err.contains("the import waits"), "{}", told.err);
    }
    import("-keys -cluster|getkeysinslot").expect(0, &["copied 1"]);
}
