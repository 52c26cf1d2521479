//! A part of the sidecar that ends in a panic is counted and told, and begins again. The panics are planted
//! (`src/telemetry/planted.rs`).

use crate::support::admin::{metric, request};
use crate::support::collector::Collector;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::line;
use crate::support::{until, warnings};

const MAPPINGS: &str = r#"
[[caches]]
key = "a:{id:int}"
type = "hash"
table = "a"
expires_column = "ends"
ttl = "1h"
write = "through"
delete = "row"
deferred = ["seen"]

[[definitions]]
key = "d:{id:int}"
type = "hash"
table = "d"
"#;

const TABLES: &str = "CREATE TABLE a (id INT PRIMARY KEY, hp INT, seen INT, ends TIMESTAMPTZ); \
    INSERT INTO a SELECT i, 5, 0, now() + interval '1 day' FROM generate_series(1, 9) AS i; \
    CREATE TABLE d (id INT PRIMARY KEY, v TEXT); INSERT INTO d VALUES (1, 'v')";

fn panics(sidecar: &Sidecar, part: &str) -> f64 {
    metric(sidecar, &format!("hearthside_part_panics_total{{part=\"{part}\"}}"))
}

/// A sidecar with this bug.
fn with_bug(redis: &Redis, postgres: &Postgres, bug: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(MAPPINGS);
    builder.environment("HEARTHSIDE_PLANTED", bug).expect(&[warnings::PANICKED])
}

/// The same over a Postgres whose log holds what logical replication needs.
fn place() -> (Redis, Postgres) {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c wal_level=logical"));
    postgres.sql(TABLES);
    (redis, postgres)
}

#[test]
fn a_change_that_meets_a_bug_counts_as_a_gap() {
    for feed in ["notify", "replication"] {
        let (redis, postgres) = place();
        let builder = with_bug(&redis, &postgres, "panic-in-change").set("STORE__FEED", feed);
        let builder = builder.set("CACHE__MAX_STALENESS", "1h").expect(&[warnings::FEED_LOST]);
        let sidecar = builder.migrated().start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
        postgres.sql("UPDATE a SET hp = 6 WHERE id = 1");
        until("the change is seen all the same", || wire.ask("HGET a:1 hp") == "$1\r\n6\r\n");
        assert_eq!((panics(&sidecar, "change_feed"), metric(&sidecar, "hearthside_gaps_total")), (1.0, 1.0));
        postgres.sql("UPDATE a SET hp = 7 WHERE id = 1");
        until("and so is the next one", || wire.ask("HGET a:1 hp") == "$1\r\n7\r\n");
        let (status, body) = request(&sidecar, "GET", "/readyz");
        let told = "the change feed ended in a panic 1 time since the start, which is a bug: please report it";
        assert!(status == 200 && body.starts_with("ready\n") && body.contains(told), "{body}");
    }
}

/// What each part does, seen from outside, after it has ended in a panic.
fn works(part: &str, sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    let is = |name: &str, least: f64| {
        until(name, || metric(sidecar, name) >= least);
    };
    match part {
        "accepting" | "worker" => assert_eq!(wire.ask("PING"), "+PONG\r\n"),
        "admin" => assert_eq!(request(sidecar, "GET", "/livez").0, 200),
        "deferring" => is("hearthside_mapping_defers{mapping=\"a:{id:int}\"}", 1.0),
        "definitions" => {
            postgres.sql("UPDATE d SET v = 'new'");
            until("it is loaded again", || wire.ask("HGET d:1 v") == "$3\r\nnew\r\n");
        }
        "flushing" => {
            assert_eq!(wire.ask("HSET a:1 seen 5"), ":0\r\n");
            until("it is saved", || postgres.sql("SELECT seen FROM a WHERE id = 1") == "5");
        }
        "history" => {
            until("the console has a past", || request(sidecar, "GET", "/api/history").1.contains("at_ms"));
        }
        "reaper" => {
            let idle = sidecar.wire();
            is("hearthside_clients_idle_total", 1.0);
            drop(idle);
        }
        "refresher" => {
            (0..50).for_each(|_| drop(wire.ask("HGET a:2 hp")));
            postgres.sql("UPDATE a SET hp = hp + 1 WHERE id = 2");
            is("hearthside_refreshed_total", 1.0);
        }
        "schema_watch" => {
            postgres.sql("ALTER TABLE a ADD COLUMN mp INT DEFAULT 3");
            until("the column is shown", || wire.ask("HGET a:1 mp") == "$1\r\n3\r\n");
        }
        "store_health" => is("hearthside_store_writable", 1.0),
        "subscriptions" => {
            assert!(wire.ask("SUBSCRIBE c").starts_with("*3\r\n"));
            sidecar.wire().ask("PUBLISH c m");
            assert!(String::from_utf8_lossy(&wire.frame()).contains("message"));
        }
        "sweeper" => {
            postgres.sql("INSERT INTO a VALUES (77, 1, 1, now() - interval '1 day')");
            until("it is removed", || postgres.sql("SELECT count(*) FROM a WHERE id = 77") == "0");
        }
        "tidying" => {
            wire.ask("HGET a:3 hp");
            is("hearthside_cache_entries", 1.0);
        }
        "upstream_health" => is("hearthside_upstream_up", 1.0),
        "verifier" => {
            until("hits are verified", || {
                wire.ask("HGET a:4 hp");
                metric(sidecar, "hearthside_verified_total") >= 1.0
            });
        }
        _ => {}
    }
}

#[test]
fn every_part_begins_again() {
    let (redis, postgres) = place();
    drop(with_bug(&redis, &postgres, "").migrated());
    let parts = [
        "accepting",
        "admin",
        "change_feed",
        "deferring",
        "definitions",
        "flushing",
        "history",
        "idle_connections",
        "near",
        "reading_again",
        "reaper",
        "refresher",
        "renewals",
        "schema_watch",
        "sentinels",
        "store_health",
        "subscriptions",
        "sweeper",
        "tidying",
        "upstream_health",
        "verifier",
        "warm_start",
        "worker",
    ];
    for part in parts {
        let builder = with_bug(&redis, &postgres, &format!("panic-of-{part}")).expect(&[warnings::FEED_LOST]);
        let builder = builder.set("STORE__SWEEP_INTERVAL", "100ms").set("STORE__SCHEMA_INTERVAL", "100ms");
        let builder = match part {
            "reaper" => builder.set("LIMITS__IDLE_TIMEOUT", "300ms"),
            "subscriptions" => builder.set("PUBSUB__MODE", "shared"),
            "verifier" => builder.set("VERIFY__SAMPLE", "1"),
            "warm_start" => builder.set("CACHE__WARM", "warm"),
            _ => builder,
        };
        let sidecar = builder.set("SERVER__WORKERS", "1").set("JOURNAL__FLUSH_INTERVAL", "50ms").start();
        until(&format!("{part} is counted"), || panics(&sidecar, part) == 1.0);
        works(part, &sidecar, &postgres);
        assert_eq!(panics(&sidecar, part), 1.0, "{part} ended once");
    }
}

/// What a reading of files was under way when it ended in a panic, and what was to be read beside it, is read.
#[test]
fn definitions_whose_loading_meets_a_bug_are_loaded_again() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    for bug in ["panic-in-load", "panic-in-reading-again"] {
        let file = |name: &str| folder.path().join(format!("{name}.json"));
        let write = |value: &str| {
            for name in ["x", "y"] {
                std::fs::write(file(name), format!("{{\"1\": \"{value}\"}}")).expect("written");
            }
        };
        write("old");
        let mapping =
            |name| format!("[[definitions]]\nkey = \"{name}:{{id}}\"\ntype = \"string\"\nfile = {:?}\n", file(name));
        let builder = Sidecar::builder().redis(&redis).config(&["x", "y"].map(mapping).concat());
        let sidecar = builder.environment("HEARTHSIDE_PLANTED", bug).expect(&[warnings::PANICKED]).start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("MGET x:1 y:1"), "*2\r\n$3\r\nold\r\n$3\r\nold\r\n");
        write("new");
        assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
        until("both are loaded", || wire.ask("MGET x:1 y:1") == "*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n");
        assert_eq!(panics(&sidecar, "definitions") + panics(&sidecar, "reading_again"), 1.0, "{bug}");
    }
}

#[test]
fn a_migration_that_meets_a_bug_is_followed_all_the_same() {
    let migrations = [
        ("panic-in-replanning", "ALTER TABLE a ADD COLUMN mp INT DEFAULT 3", "HGET a:1 mp", "$1\r\n3\r\n"),
        ("panic-in-rewrite", "ALTER TABLE a ALTER hp TYPE INT USING hp + 1", "HGET a:1 hp", "$1\r\n6\r\n"),
    ];
    let (redis, postgres) = place();
    drop(with_bug(&redis, &postgres, "").migrated());
    for (bug, migration, request, shown) in migrations {
        let sidecar = with_bug(&redis, &postgres, bug).set("STORE__SCHEMA_INTERVAL", "100ms").start();
        let mut wire = sidecar.wire();
        assert_ne!(wire.ask("HGETALL a:1"), "*0\r\n");
        postgres.sql(migration);
        until("what was kept before is forgotten", || wire.ask(request) == shown);
        // At the start all mappings may be read again at that very moment.
        assert_eq!(panics(&sidecar, "schema_watch") + panics(&sidecar, "reading_again"), 1.0, "{bug}");
    }
}

/// A sidecar with this bug and one lane to a server behind a proxy.
fn before(proxy: &Proxy, bug: &str) -> Sidecar {
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let builder =
        builder.set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1").environment("HEARTHSIDE_PLANTED", bug);
    builder.expect(&[warnings::PANICKED]).expect(warnings::UPSTREAM_AWAY).start()
}

/// Nobody knows what of a reply its client has been given when its connection met a bug; of the others it is certain.
#[test]
fn a_lane_that_meets_a_bug_closes_one_client_tells_the_others_and_is_opened_again() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = before(&proxy, "panic-in-lane-reply");
    let [mut first, mut reads, mut writes] = [(); 3].map(|()| sidecar.wire());
    let trapped = proxy.trap("at-first");
    first.send(&line("SET a at-first"));
    until("the lane is connected", || trapped.has_caught());
    // No reply comes before all three are sent.
    proxy.answer_after("at-last");
    trapped.release();
    reads.send(&line("GET b"));
    until("it is sent", || metric(&sidecar, "hearthside_commands_total{route=\"passthrough\",outcome=\"ok\"}") >= 2.0);
    writes.send(&line("SET c at-last"));
    let told = String::from_utf8_lossy(&writes.frame()).into_owned();
    assert!(told.starts_with("-ERR hearthside: the upstream connection was lost"), "{told}");
    assert_eq!(String::from_utf8_lossy(&reads.frame()), "$-1\r\n", "what only reads is sent again");
    assert_eq!(first.try_frame(), None);
    assert_eq!((panics(&sidecar, "upstream_connections"), writes.ask("GET c")), (1.0, "$7\r\nat-last\r\n".into()));
}

#[test]
fn a_client_whose_own_connection_meets_a_bug_is_told_and_gets_another() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = before(&proxy, "panic-in-pinned-reply");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("RPUSH q a b"), ":2\r\n");
    let told = wire.ask("BLPOP q 0");
    assert!(told.starts_with("-ERR hearthside: the upstream connection was lost"), "{told}");
    assert_eq!(wire.ask("BLPOP q 0"), "*2\r\n$1\r\nq\r\n$1\r\nb\r\n");
    assert_eq!(panics(&sidecar, "upstream_connections"), 1.0);
}

#[test]
fn the_private_redis_outlives_a_bug_of_what_keeps_it() {
    let builder = || Sidecar::builder().expect(&[warnings::PANICKED]);
    let mut sidecar = builder().environment("HEARTHSIDE_PLANTED", "panic-of-private_server").start();
    until("it is counted", || panics(&sidecar, "private_server") == 1.0);
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
    assert_eq!(sidecar.stop(), Some(0));
    assert!(!sidecar.folder.path().join("data/redis.sock").exists(), "it has saved and ended");
}

#[test]
fn a_journal_whose_writer_has_ended_takes_nothing_and_says_so() {
    let (redis, postgres) = place();
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal.db").display().to_string();
    let builder = |bug: &str| with_bug(&redis, &postgres, bug).set("JOURNAL__PATH", &journal).migrated();
    let mut sidecar = builder("panic-in-append").start();
    let mut wire = sidecar.wire();
    let told = wire.ask("HSET a:1 seen 5");
    assert!(told.contains("may have been applied") && told.contains("writer ended before it answered"), "{told}");
    let defers = "hearthside_mapping_defers{mapping=\"a:{id:int}\"}";
    until("it takes no more", || metric(&sidecar, defers) == 0.0);
    let (status, body) = request(&sidecar, "GET", "/readyz");
    for told in [
        "deferred writes of the mapping 'a:{id:int}' are refused: the journal's file: its writer has ended",
        "the journal's writer ended in a panic 1 time since the start",
    ] {
        assert!(status == 200 && body.contains(told), "{body}");
    }
    assert!(wire.ask("HSET a:1 seen 6").contains("its writer has ended"));
    assert_eq!(wire.ask("HSET a:1 hp 8"), ":0\r\n", "what is not deferred is written");
    assert_eq!(sidecar.stop(), Some(0));
    let sidecar = builder("").start();
    assert_eq!(sidecar.wire().ask("HSET a:1 seen 6"), ":0\r\n");
    until("it is saved", || postgres.sql("SELECT seen FROM a WHERE id = 1") == "6");
}

#[test]
fn traces_that_meet_a_bug_are_exported_again() {
    let ((redis, postgres), collector) = (place(), Collector::start());
    let builder = with_bug(&redis, &postgres, "panic-of-traces").set("TRACES__ENDPOINT", collector.url());
    let sidecar = builder.set("TRACES__SAMPLE", "1").migrated().start();
    until("it has met the bug", || panics(&sidecar, "traces") == 1.0);
    sidecar.wire().ask("STRLEN a");
    collector.wait_for(1, "STRLEN");
}
