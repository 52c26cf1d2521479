//! `check --connect` tells how many keys of the upstream a mapping hides.

use super::tables::{Said, Tables};
use crate::support::clusters::Cluster;
use crate::support::redis::{Redis, Server};
use crate::support::wire::Wire;

fn check(tables: &Tables, upstream: &str, config: &str) -> Said {
    tables.builder(upstream).config(config).execute(&["check", "--connect"]).into()
}

#[test]
fn keys_that_a_mapping_hides_are_counted_and_no_fault() {
    let tables = Tables::sqlite();
    let redis = Redis::start();
    let mut wire = redis.wire();
    for id in 1..=29 {
        wire.ask(&format!("HSET h:{id} f a"));
    }
    wire.ask("SET s:one 1");
    wire.ask("SET h:other 1");
    let told = check(&tables, &redis.url(), &tables.config());
    assert_eq!(told.code, Some(0), "{}", told.err);
    let lines: Vec<&str> = told.err.lines().filter(|line| line.contains("hidden")).collect();
    assert_eq!(lines.len(), 2, "one for each mapping that hides some: {}", told.err);
    assert!(lines[0].contains("caches[0].key: 29 keys of the upstream are hidden by the mapping"), "{}", lines[0]);
    assert!(lines[0].contains("look at mode, and at hearthside import"), "{}", lines[0]);
    assert!(lines[1].contains("caches[2].key: 1 key of the upstream"), "{}", lines[1]);
    let off = tables.config().replace("write = \"through\"", "write = \"through\"\nmode = \"off\"");
    let told = check(&tables, &redis.url(), &off);
    assert!(!told.err.contains("hidden"), "they are the upstream's: {}", told.err);
    wire.ask("ACL SETUSER weak on >secret ~* +@all -scan");
    let told = check(&tables, &redis.url().replace("redis://", "redis://weak:secret@"), &tables.config());
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(told.err.matches("the keys that mappings hide cannot be counted").count(), 1, "{}", told.err);
}

#[test]
fn keys_of_other_databases_are_said_not_to_be_looked_at() {
    let tables = Tables::sqlite();
    let redis = Redis::start();
    let mut wire = redis.wire();
    let import = |url: &str| Said::from(tables.builder(url).execute(&["import", "p:{id:int}"]));
    wire.ask("HSET p:1 f a");
    let told = import(&redis.url());
    assert!(told.code == Some(0) && !told.err.contains("other databases"), "{}", told.err);
    wire.ask("SELECT 3");
    wire.ask("HSET p:2 f a");
    wire.ask("HSET p:3 f a");
    let expected = "keys of other databases are not looked at: 3 (2 keys); that of upstream.url is 0";
    let told = import(&redis.url());
    assert!(told.code == Some(0) && told.err.contains(expected), "{}", told.err);
    assert!(check(&tables, &redis.url(), &tables.config()).err.contains(expected));
    let told = import(&format!("{}/3", redis.url()));
    assert!(told.out.contains("copied 2") && told.err.contains("looked at: 0 (1 keys)"), "{}{}", told.out, told.err);
}

#[test]
fn a_part_of_the_keys_is_hidden_by_a_percentage_and_all_nodes_of_a_cluster_are_asked() {
    let tables = Tables::sqlite();
    let cluster = Cluster::with(Server::Installed, 0, &[]);
    for port in cluster.masters() {
        let mut wire = Wire::tcp(port);
        // Each takes those that are its own.
        for id in 0..2000 {
            wire.ask(&format!("HSET h:{id} f a"));
        }
    }
    let told = check(&tables, &cluster.url(), &tables.config());
    assert!(told.err.contains("2000 keys of the upstream are hidden"), "{}", told.err);
    let half = tables.config().replacen("write = \"through\"", "write = \"through\"\npercent = 50", 1);
    let told = check(&tables, &cluster.url(), &half);
    let line = told.err.lines().find(|line| line.contains("hidden")).expect("a line");
    let count = line.split("key: ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number");
    assert!((900..1100).contains(&count.parse::<u32>().expect("a number")), "{line}");
}
