//! Warm start: what was read before a restart is in memory soon after it, and Postgres is asked for it in few statements.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{until, warnings};

const MAPPINGS: &str = r#"
[[caches]]
key = "hero:{id:int}"
type = "hash"
table = "hero"
[[caches]]
key = "short:{id:int}"
type = "string"
value = "v"
table = "hero"
ttl = "1s"
"#;

fn builder(redis: &Redis, postgres: &Postgres, file: &str) -> Builder {
    Sidecar::builder().redis(redis).postgres(postgres).config(MAPPINGS).migrated().set("CACHE__WARM", file)
}

fn postgres() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE hero (id INT PRIMARY KEY, v TEXT); \
         INSERT INTO hero SELECT i, 'v' || i FROM generate_series(1, 2000) AS i",
    );
    postgres
}

fn loads(postgres: &Postgres) -> u64 {
    postgres.calls("%hearthside_row%")
}

fn warmed(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_warmed_total")
}

#[test]
fn what_was_read_before_a_restart_is_in_memory_after_it() {
    let (redis, postgres, folder) = (Redis::start(), postgres(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("deep/warm");
    let file = path.to_str().expect("text");
    let mut sidecar = builder(&redis, &postgres, file).start();
    let mut wire = sidecar.wire();
    for id in (1..=1000).chain([9999]) {
        wire.ask(&format!("HGET hero:{id} v"));
    }
    wire.ask("GET short:1");
    assert_eq!(sidecar.stop(), Some(0));
    let text = fs::read_to_string(&path).expect("it was written");
    assert!(text.contains("hero:1000") && !text.contains("v1000"), "keys, and no values");
    assert!(!text.contains("9999"), "what is not there is not hot");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    postgres.sql("UPDATE hero SET v = 'new' WHERE id = 7");
    let before = loads(&postgres);
    let sidecar = builder(&redis, &postgres, file).start();
    until("the keys are loaded", || warmed(&sidecar) >= 1000.0);
    let statements = loads(&postgres) - before;
    assert!(statements <= 50, "{statements} statements for a thousand keys");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET hero:7 v"), "$3\r\nnew\r\n");
    for id in 8..=1000 {
        assert_eq!(wire.ask(&format!("HGET hero:{id} v")), format!("${}\r\nv{id}\r\n", id.to_string().len() + 1));
    }
    assert_eq!(loads(&postgres) - before, statements, "all of them are hits");
}

/// The list as it would be if it had been written so many milliseconds earlier.
fn older(list: &str, ms: i64) -> String {
    let (before, rest) = list.split_once("\"saved_at\":").expect("a moment");
    let (moment, after) = rest.split_once(',').expect("more behind it");
    format!("{before}\"saved_at\":{},{after}", moment.parse::<i64>().expect("a number") - ms)
}

#[test]
fn nothing_is_loaded_of_a_block_that_has_changed_or_whose_ttl_is_over() {
    let (redis, postgres, folder) = (Redis::start(), postgres(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("warm");
    let file = path.to_str().expect("text");
    let both = format!("{MAPPINGS}{}", MAPPINGS.replace("hero:", "also:").replace("short:", "brief:"));
    let mut sidecar = builder(&redis, &postgres, file).config(&both).migrated().start();
    for read in ["HGET hero:1 v", "GET short:1", "HGET also:1 v", "GET brief:1"] {
        sidecar.wire().ask(read);
    }
    assert_eq!(sidecar.stop(), Some(0));
    let list = older(&fs::read_to_string(&path).expect("it was written"), 10_000);
    let changed = both.replacen("type = \"hash\"\n", "type = \"hash\"\nttl = \"1h\"\n", 1);
    for (config, are_warm) in [(&changed, 1.0), (&both, 2.0)] {
        fs::write(&path, &list).expect("written");
        let mut sidecar = builder(&redis, &postgres, file).config(config).migrated().start();
        until("the warm start has ended", || sidecar.log().contains("keys that were hot before are in memory"));
        assert_eq!((warmed(&sidecar), sidecar.stop()), (are_warm, Some(0)));
    }
}

#[test]
fn a_file_of_no_use_is_told_and_the_start_is_cold() {
    let (redis, postgres, folder) = (Redis::start(), postgres(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("warm");
    fs::write(&path, "{\"version\":1,\"saved_at\":17").expect("written");
    let builder = builder(&redis, &postgres, path.to_str().expect("text")).expect(&[warnings::NO_WARM_START]);
    let mut sidecar = builder.start();
    assert_eq!(sidecar.wire().ask("HGET hero:1 v"), "$2\r\nv1\r\n");
    until("it is told", || sidecar.log().contains(warnings::NO_WARM_START));
    assert_eq!(sidecar.stop(), Some(0));
    assert!(fs::read_to_string(&path).expect("it is there").contains("hero:1"), "it was replaced");
}

#[test]
fn keys_of_a_mapping_that_is_off_are_not_loaded() {
    let (redis, postgres, folder) = (Redis::start(), postgres(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("warm");
    let file = path.to_str().expect("text");
    let other = "[[caches]]\nkey = \"twin:{id:int}\"\ntype = \"hash\"\ntable = \"hero\"\n";
    let off = MAPPINGS.replacen("table = \"hero\"\n", "table = \"hero\"\nmode = \"off\"\n", 1);
    assert_ne!(off, MAPPINGS);
    let started = || builder(&redis, &postgres, file).config(&format!("{off}{other}")).migrated().start();
    let mut sidecar = started();
    let mut wire = sidecar.wire();
    wire.ask("HEARTHSIDE MODE hero:{id:int} on");
    for id in 1..=50 {
        wire.ask(&format!("HGET hero:{id} v"));
        wire.ask(&format!("HGET twin:{id} v"));
    }
    assert_eq!(sidecar.stop(), Some(0));
    assert!(fs::read_to_string(&path).expect("it was written").contains("hero:50"));
    let sidecar = started();
    until("the warm start is over", || sidecar.log().contains("keys that were hot before are in memory"));
    assert_eq!(warmed(&sidecar), 50.0, "the others alone: a restart has brought the file's mode");
}
