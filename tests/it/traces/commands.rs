//! What stands in the spans of commands, and what does not.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::builder;
use crate::structure::texts::{quoted, read, rows};
use crate::support::admin::metric;
use crate::support::collector::{Collector, attribute, is_server, millis};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::wire::line;
use crate::support::{until, warnings};

/// Some attributes of a span, as text.
fn of(span: &Span, names: &[&str]) -> String {
    names.iter().map(|name| attribute(span, name)).collect::<Vec<_>>().join(" ")
}

/// A trace, without the waits, which may be too short to be seen.
fn tree(collector: &Collector, root: &Span) -> Vec<String> {
    collector.tree(root).into_iter().filter(|line| line.trim() != "wait for the store").collect()
}

const WAY: [&str; 2] = ["hearthside.route", "hearthside.outcome"];

#[test]
fn a_command_has_a_span_and_what_it_waited_for_stands_below() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let mut sidecar = builder(&redis, &postgres, &collector).start();
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME shop");
    for command in ["HGET hero:70001 name", "HGET hero:70001 name", "HGET hero:79999 name", "HGET hero:79999 name"] {
        wire.ask(command);
    }
    let reads = collector.wait_for(4, "HGET hero:{id:int}");
    let ways: Vec<String> = reads.iter().map(|span| of(span, &WAY)).collect();
    assert_eq!(ways, ["cache miss", "cache hit", "cache miss", "cache absent"]);
    let below = ["HGET hero:{id:int}", "  load hero:{id:int}", "    SELECT hero"];
    assert_eq!(tree(&collector, &reads[0]), below);
    assert_eq!((tree(&collector, &reads[1]).len(), tree(&collector, &reads[3]).len()), (1, 1));
    let load = collector.child(&reads[2], "load hero:{id:int}");
    assert_eq!(attribute(&load, "hearthside.found"), "false");
    let statement = collector.child(&load, "SELECT hero");
    assert_eq!(
        of(&statement, &["db.system.name", "db.operation.name", "db.collection.name"]),
        "postgresql SELECT hero"
    );
    let names = ["db.system.name", "db.operation.name", "db.namespace", "hearthside.mapping", "hearthside.reason"];
    assert_eq!(of(&reads[0], &names), "redis HGET 0 hero:{id:int} sampled");
    assert_eq!(of(&reads[0], &["hearthside.client.name", "client.address"]), "shop 127.0.0.1");
    assert!(is_server(&reads[0]) && reads[0].start_time_unix_nano <= load.start_time_unix_nano);

    wire.ask("HSET hero:70001 name topsecret age 5");
    wire.ask("HSET hero:70001 age 5000");
    let writes = collector.wait_for(2, "HSET hero:{id:int}");
    assert_eq!(tree(&collector, &writes[0]), ["HSET hero:{id:int}", "  UPSERT hero"]);
    assert_eq!(of(&writes[0], &WAY), "write ok");
    assert_eq!(of(&writes[1], &["hearthside.outcome", "db.response.status_code", "error.type"]), "error ERR ERR");
    assert_eq!(attribute(&collector.child(&writes[1], "UPSERT hero"), "error.type"), "field");

    wire.ask("HGETALL place:1");
    assert_eq!(of(&collector.wait_for(1, "HGETALL place:{id:int}")[0], &WAY), "definition hit");
    wire.ask("MGET hero:70002 plainsecret");
    let both = &collector.wait_for(1, "MGET hero:{id:int}")[0];
    let mut below = tree(&collector, both);
    below.sort();
    assert_eq!(below, ["    SELECT hero", "  load hero:{id:int}", "  upstream MGET", "MGET hero:{id:int}"]);
    wire.ask("CONFIG GET save");
    assert_eq!(of(&collector.wait_for(1, "CONFIG GET")[0], &WAY), "passthrough ok");

    wire.ask("HINCRBY tally:70001 n 1");
    let deferred = &collector.wait_for(1, "HINCRBY tally:{id:int}")[0];
    assert_eq!(tree(&collector, deferred).last().expect("one"), "  journal tally:{id:int}");
    let flush = &collector.wait_for(1, "flush tally:{id:int}")[0];
    assert_eq!((&flush.links[0].trace_id, &flush.links[0].span_id), (&deferred.trace_id, &deferred.span_id));
    assert_eq!(of(flush, &["db.system.name", "db.operation.batch.size"]), "postgresql 1");

    (0..3).for_each(|_| wire.send(&line("GET plainsecret")));
    wire.send(&["SET plainsecret topsecret", "INCR plainsecret"].map(line).concat());
    (0..5).for_each(|_| drop(wire.frame()));
    assert_eq!(sidecar.stop(), Some(0));
    holds_no_key_and_no_value(&collector);
    is_documented(&collector);
}

fn holds_no_key_and_no_value(collector: &Collector) {
    let bytes = collector.bytes();
    for secret in ["topsecret", "plainsecret", "hero:7", "tally:7", "place:1"] {
        let at = bytes.windows(secret.len()).position(|part| part == secret.as_bytes());
        assert_eq!(at, None, "{secret} has left the process");
    }
}

/// The names that the code gives to spans, but for those of commands.
fn names() -> BTreeSet<String> {
    let code = read("src/telemetry/traces/names.rs");
    code.lines().filter_map(|line| Some(line.split_once(": &str = \"")?.1.split_once('"')?.0.to_owned())).collect()
}

/// Those of them that a span's name is made of.
fn made_of<'n>(name: &str, names: &'n BTreeSet<String>) -> Vec<&'n String> {
    let padded = format!(" {name} ");
    names.iter().filter(|known| padded.contains(&format!(" {known} "))).collect()
}

/// The table of spans has every name of the code, and none that the code has not.
#[test]
fn the_table_of_spans_is_that_of_the_code() {
    let (names, rows) = (names(), rows("docs/OPERATIONS.md", "## Traces"));
    assert!(names.len() > 10 && rows[0][0].starts_with("the command"), "{names:?} {rows:?}");
    let told: Vec<&str> = rows[1..].iter().flat_map(|row| quoted(&row[0])).collect();
    for name in &told {
        assert!(!made_of(name, &names).is_empty(), "the code has no span {name}");
    }
    let told: BTreeSet<String> = told.iter().flat_map(|name| made_of(name, &names)).cloned().collect();
    assert_eq!(told, names);
}

/// The tables of "Traces" in the operators' document name every attribute that comes, and none that does not.
fn is_documented(collector: &Collector) {
    let seen: BTreeSet<String> =
        collector.spans().into_iter().flat_map(|span| span.attributes).map(|attribute| attribute.key).collect();
    let rows = rows("docs/OPERATIONS.md", "### Attributes of spans");
    let told: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
    assert_eq!(seen, told);
    let names = names();
    for span in collector.spans().iter().filter(|span| !is_server(span)) {
        assert!(!made_of(&span.name, &names).is_empty(), "{} is not documented", span.name);
    }
}

#[test]
fn pass_through_commands_have_the_upstreams_part_also_in_a_pipeline() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).start();
    let mut wire = sidecar.wire();
    wire.send(&[line("SET a 1"), line("GET a").repeat(20), line("INCR a")].concat());
    (0..22).for_each(|_| drop(wire.frame()));
    let reads = collector.wait_for(20, "GET");
    let port = redis.url().rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
    for read in &reads {
        assert_eq!(of(read, &WAY), "passthrough ok");
        let part = collector.child(read, "upstream PIPELINE");
        assert_eq!(of(&part, &["server.address", "server.port"]), format!("127.0.0.1 {port}"));
        assert!(attribute(&part, "db.operation.batch.size").parse::<u32>().expect("a number") > 1);
        assert!(part.start_time_unix_nano >= read.start_time_unix_nano);
        assert!(part.end_time_unix_nano <= read.end_time_unix_nano + 1_000_000);
    }
    wire.ask("STRLEN a");
    collector.child(&collector.wait_for(1, "STRLEN")[0], "upstream STRLEN");
    wire.ask("LPUSH a x");
    assert_eq!(of(&collector.wait_for(1, "LPUSH")[0], &["error.type", "hearthside.outcome"]), "WRONGTYPE error");
}

#[test]
fn a_transaction_has_the_parts_of_the_store_and_the_upstream() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).start();
    let mut wire = sidecar.wire();
    let both = ["MULTI", "HSET hero:70003 name b", "SET a 1", "EXEC"];
    for command in both {
        wire.ask(command);
    }
    let exec = &collector.wait_for(1, "EXEC")[0];
    let mut below = tree(&collector, exec);
    below.sort();
    assert_eq!(below, ["  COMMIT", "  transaction statements", "  upstream EXEC", "EXEC"]);
    wire.ask("MULTI");
    wire.ask("SET a 2");
    wire.ask("EXEC");
    let second = collector.wait_for(2, "EXEC").pop().expect("one");
    assert_eq!(tree(&collector, &second), ["EXEC", "  upstream EXEC"]);
    wire.send(&["MULTI", "SET a 3", "INCR a", "EXEC"].map(line).concat());
    (0..4).for_each(|_| drop(wire.frame()));
    let whole = collector.wait_for(3, "EXEC").pop().expect("one");
    assert_eq!(
        (tree(&collector, &whole), of(&whole, &WAY)),
        (vec!["EXEC".into(), "  upstream EXEC".into()], "passthrough ok".into())
    );
}

#[test]
fn what_an_exec_does_for_its_commands_stands_below_it_and_they_are_no_commands_of_their_own() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).start();
    let mut wire = sidecar.wire();
    for command in ["MULTI", "SET a 1", "HGET hero:70005 name", "HGET hero:70005 age"] {
        wire.ask(command);
    }
    assert!(wire.ask("EXEC").starts_with("*3\r\n+OK\r\n"));
    let exec = &collector.wait_for(1, "EXEC")[0];
    let mut below = tree(&collector, exec);
    below.sort();
    assert_eq!(below, ["    SELECT hero", "  load hero:{id:int}", "  upstream EXEC", "EXEC"]);
    assert!(millis(&collector.child(exec, "load hero:{id:int}")) <= millis(exec));
    for command in ["MULTI", "HGET hero:70005 name", "EXEC", "DEL hero:70005"] {
        wire.ask(command);
    }
    let again = collector.wait_for(2, "EXEC").pop().expect("one");
    assert_eq!(tree(&collector, &again), ["EXEC"]);
    let deleted = &collector.wait_for(1, "DEL hero:{id:int}")[0];
    assert_eq!(tree(&collector, deleted), ["DEL hero:{id:int}", "  DELETE hero"]);
    assert!(collector.roots("EXEC hero:{id:int}").is_empty());
    for command in ["SELECT 2", "NOSUCH a", "HELLO 2"] {
        wire.ask(command);
    }
    assert_eq!(of(&collector.wait_for(1, "SELECT")[0], &WAY), "local ok");
    assert_eq!(of(&collector.wait_for(1, "HELLO")[0], &WAY), "local ok");
    collector.child(&collector.wait_for(1, "UNKNOWN")[0], "upstream UNKNOWN");
}

#[test]
fn the_flush_that_saves_a_write_in_the_end_links_to_it() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let builder = builder(&redis, &postgres, &collector).set("JOURNAL__FLUSH_INTERVAL", "50ms");
    let sidecar = builder.expect(warnings::STORE_AWAY).expect(&[warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    let flushes = |has_failed: bool| -> Vec<Span> {
        let flushes = collector.roots("flush tally:{id:int}").into_iter();
        flushes.filter(|flush| attribute(flush, "error.type").is_empty() != has_failed).collect()
    };
    assert_eq!(wire.ask("HSET tally:70001 n 5"), ":0\r\n");
    until("the first write is saved", || flushes(false).len() == 1);
    postgres.stop();
    assert_eq!(wire.ask("HSET tally:70001 n 9"), ":0\r\n");
    until("a flush has failed", || !flushes(true).is_empty());
    postgres.launch();
    until("another one has saved it", || flushes(false).len() == 2);
    let saved = &flushes(false)[1];
    let write = &collector.roots("HSET tally:{id:int}")[1];
    assert_eq!(saved.links.len(), 1);
    assert_eq!((&saved.links[0].trace_id, &saved.links[0].span_id), (&write.trace_id, &write.span_id));
}

#[test]
fn whoever_waits_for_the_load_of_another_command_links_to_it() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).start();
    let mut lock = postgres.session();
    lock.run("BEGIN; LOCK TABLE hero IN ACCESS EXCLUSIVE MODE;");
    let mut wires = [(); 3].map(|()| sidecar.wire());
    wires[0].send(&line("HGET hero:70004 age"));
    until("the load has begun", || metric(&sidecar, "hearthside_commands_total{outcome=\"miss\"}") == 1.0);
    wires[1..].iter_mut().for_each(|wire| wire.send(&line("HGET hero:70004 age")));
    until("the others wait for it", || metric(&sidecar, "hearthside_coalesced_waiters_total") == 2.0);
    lock.run("COMMIT;");
    for wire in &mut wires {
        assert_eq!(wire.frame(), b"$1\r\n4\r\n");
    }
    let reads = collector.wait_for(3, "HGET hero:{id:int}");
    let (owners, followers): (Vec<&Span>, Vec<&Span>) = reads.iter().partition(|span| span.links.is_empty());
    assert_eq!((owners.len(), followers.len()), (1, 2));
    let load = collector.child(owners[0], "load hero:{id:int}");
    for follower in followers {
        assert_eq!((&follower.links[0].trace_id, &follower.links[0].span_id), (&load.trace_id, &load.span_id));
        assert_eq!(tree(&collector, follower).len(), 1);
    }
}

#[test]
fn the_sampled_part_of_all_commands_is_the_one_that_is_asked_for() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let mut sidecar = builder(&redis, &postgres, &collector).set("TRACES__SAMPLE", "0.1").start();
    let mut wire = sidecar.wire();
    wire.ask("HGETALL place:1");
    for _ in 0..50 {
        wire.send(&[line("GET a").repeat(50), line("HGETALL place:1").repeat(50)].concat());
        (0..100).for_each(|_| drop(wire.frame()));
    }
    assert_eq!(sidecar.stop(), Some(0));
    for name in ["GET", "HGETALL place:{id:int}"] {
        let count = collector.roots(name).len();
        // 2,500 of each, and seven times what that varies by.
        assert!((145..=355).contains(&count), "{name}: {count}");
    }
}
