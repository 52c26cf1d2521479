//! The blocks: what is bounded, what a reload changes, who may read, and what operators see.

use std::fmt::Write as _;

use super::{NEAR, bulk, hits, keep, keeping, started, told};
use crate::support::admin::{metric, request};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

#[test]
fn memory_for_kept_replies_is_bounded() {
    let redis = Redis::start();
    redis.wire().ask(&format!("SET cfg:long {}", "x".repeat(2000)));
    let config = "[[near]]\nkeys = \"cfg:*\"\nttl = \"1h\"\nmax_bytes = \"256kb\"\n";
    let sidecar = Sidecar::builder().redis(&redis).config(config).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    for i in 0..2000 {
        wire.ask(&format!("GETRANGE cfg:long {} {}", i % 7, 1000 + i));
        wire.ask("GETRANGE cfg:long 0 9");
    }
    let of = |name: &str| metric(&sidecar, &format!("hearthside_near_{name}{{keys=\"cfg:*\"}}"));
    until("it is shown", || of("entries") > 50.0);
    assert!(of("bytes") <= 262_144.0, "{}", of("bytes"));
    assert!(hits(&sidecar) > 1900, "what is asked for all the time stays: {}", hits(&sidecar));
    wire.ask("SET cfg:long y");
    until("what holds no more gives its memory back", || of("entries") == 0.0 && of("bytes") == 0.0);
}

#[test]
fn a_reload_brings_blocks_and_takes_them_away() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    ["SET cfg:a 1", "SET feat:a 1"].iter().for_each(|set| drop(direct.ask(set)));
    let sidecar = Sidecar::builder().redis(&redis).config("").expect(&[warnings::FAULTY_RELOAD]).start();
    let mut wire = sidecar.wire();
    (0..3).for_each(|_| assert_eq!(wire.ask("GET cfg:a"), bulk("1")));
    let reload = |config: &str, reloads: usize| {
        sidecar.configure(config);
        sidecar.signal("HUP");
        until("it is reloaded", || sidecar.log().matches("the configuration is reloaded").count() == reloads);
    };
    reload(NEAR, 1);
    told(&sidecar);
    assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk("1"));
    reload("[[near]]\nkeys = \"feat:*\"\n", 2);
    told(&sidecar);
    assert!(metric(&sidecar, "hearthside_near_hits_total{keys=\"feat:*\"}") == 0.0);
    let kept = || metric(&sidecar, "hearthside_near_hits_total{keys=\"feat:*\"}");
    until("another block's key is kept", || wire.ask("GET feat:a") == bulk("1") && kept() > 0.0);
    direct.ask("SET feat:a 2");
    until("its changes are told", || wire.ask("GET feat:a") == bulk("2"));
    direct.ask("SET cfg:a 2");
    assert_eq!(wire.ask("GET cfg:a"), bulk("2"), "it is kept no more");
    sidecar.configure("[[near]]\nkeys = \"*\"\n");
    sidecar.signal("HUP");
    until("it is refused", || sidecar.log().contains("near[0].keys: must begin with a text"));
    reload("", 3);
    let before = kept();
    (0..3).for_each(|_| assert_eq!(wire.ask("GET feat:a"), bulk("2")));
    assert!(before == 0.0 || kept() == before);
    assert!(!direct.ask("CLIENT LIST").contains("flags=tB"), "nobody listens any more");
}

#[test]
fn an_upstream_that_moves_leaves_nothing_of_the_one_before() {
    let (first, second) = (Redis::start(), Redis::start());
    first.wire().ask("SET cfg:a 1");
    second.wire().ask("SET cfg:a 2");
    let at = |redis: &Redis| format!("[upstream]\nurl = \"{}\"\n{NEAR}", redis.url());
    let sidecar = Sidecar::builder().config(&at(&first)).expect(&[warnings::NEAR_SILENT]).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    for (reloads, (redis, value)) in [(&second, "2"), (&first, "1"), (&second, "2")].into_iter().enumerate() {
        keep(&sidecar, &mut wire, "GET cfg:a");
        sidecar.configure(&at(redis));
        sidecar.signal("HUP");
        until("it is reloaded", || sidecar.log().matches("the configuration is reloaded").count() == reloads + 1);
        assert_eq!(wire.ask("GET cfg:a"), bulk(value));
        told(&sidecar);
        assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk(value));
    }
}

#[test]
fn users_read_only_what_they_may() {
    let redis = Redis::start();
    ["SET cfg:a 1", "SET cfg:secret 2"].iter().for_each(|set| drop(redis.wire().ask(set)));
    let mut config = NEAR.to_owned();
    let _ = write!(
        config,
        "[auth]\nmode = \"users\"\n[[users]]\nname = \"all\"\nnopass = true\ncommands = [\"@all\"]\nkeys = [\"*\"]\n\
         [[users]]\nname = \"few\"\nnopass = true\ncommands = [\"get\"]\nkeys = [\"cfg:a\"]\n"
    );
    let sidecar = Sidecar::builder().redis(&redis).config(&config).start();
    told(&sidecar);
    let (mut all, mut few) = (sidecar.wire(), sidecar.wire());
    assert_eq!(all.ask("AUTH all x"), "+OK\r\n");
    assert_eq!(few.ask("AUTH few x"), "+OK\r\n");
    for read in ["GET cfg:a", "GET cfg:secret", "STRLEN cfg:a"] {
        keep(&sidecar, &mut all, read);
    }
    assert_eq!(keep(&sidecar, &mut few, "GET cfg:a"), bulk("1"));
    assert!(few.ask("GET cfg:secret").starts_with("-NOPERM"));
    assert!(few.ask("STRLEN cfg:a").starts_with("-NOPERM"));
    assert!(sidecar.wire().ask("GET cfg:a").starts_with("-NOAUTH"));
}

#[test]
fn who_comes_with_a_login_of_the_upstream_reads_there() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    direct.ask("SET cfg:a 1");
    direct.ask("ACL SETUSER few on >x ~other +get +hello +ping");
    let sidecar = keeping(&redis.url()).set("AUTH__MODE", "upstream").expect(&[warnings::NEAR_WITHOUT_EFFECT]).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    (0..5).for_each(|_| assert_eq!(wire.ask("GET cfg:a"), bulk("1")));
    let mut few = sidecar.wire();
    assert_eq!(few.ask("AUTH few x"), "+OK\r\n");
    assert!(few.ask("GET cfg:a").starts_with("-NOPERM"));
    assert_eq!(hits(&sidecar), 0, "nobody reads with the sidecar's own login");
}

#[test]
fn operators_see_what_is_kept() {
    let redis = Redis::start();
    redis.wire().ask("SET cfg:a 1");
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    keep(&sidecar, &mut wire, "GET cfg:a");
    let near = || {
        let status: serde_json::Value = serde_json::from_str(&request(&sidecar, "GET", "/api/status").1).expect("JSON");
        status["near"].clone()
    };
    until("it is told", || near()["entries"] == 1);
    assert_eq!((&near()["blocks"], &near()["is_told"]), (&1.into(), &true.into()));
    assert!(near()["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let told = wire.ask("HEARTHSIDE EXPLAIN cfg:a");
    assert!(told.contains("$4\r\nnear\r\n$5\r\ncfg:*\r\n"), "{told}");
    assert!(!wire.ask("HEARTHSIDE EXPLAIN other").contains("$4\r\nnear\r\n"));
}

#[test]
fn a_start_with_blocks_that_cannot_be_is_refused() {
    let config =
        "[[near]]\nkeys = \"player:*\"\n[[caches]]\nkey = \"player:{id:int}\"\ntype = \"hash\"\ntable = \"p\"\n";
    let output = Sidecar::builder().config(config).execute(&["check"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && told.contains("near[0].keys: 'player:*' can match keys of the mapping"),
        "{told}"
    );
}
