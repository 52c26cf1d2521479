//! What an operator may look at: the same facts over the Redis port and the admin port.

use serde_json::Value;

use crate::support::admin::{metric, request, request_with};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// The facts at a path of the admin port.
pub fn facts(sidecar: &Sidecar, path: &str) -> Value {
    let (status, body) = request(sidecar, "GET", path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Those of one mapping.
fn mapping(sidecar: &Sidecar, pattern: &str) -> Value {
    let all = facts(sidecar, "/api/mappings");
    let found = all.as_array().expect("a list").iter().find(|facts| facts["mapping"] == pattern);
    found.unwrap_or_else(|| panic!("{pattern} in {all}")).clone()
}

/// The names of the first map in a reply of RESP2 or RESP3, in their order; every value is one line or two.
fn has_names(reply: &str, names: &[&str]) {
    let mut rest = reply;
    for name in names {
        let word = format!("${}\r\n{name}\r\n", name.len());
        let at = rest.find(&word).unwrap_or_else(|| panic!("{name} in {reply}"));
        rest = &rest[at + word.len()..];
    }
}

const SESSION: &str = "player:{character_id:int}:session";

#[test]
fn the_state_of_the_whole_is_told_over_both_ports() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let names = ["version", "uptime_seconds", "config", "file", "store", "state", "upstream", "servers", "endpoint"];
    let reply = wire.ask("HEARTHSIDE STATUS");
    assert!(reply.starts_with("*34\r\n"), "{reply}");
    has_names(&reply, &names);
    wire.ask("HELLO 3");
    let reply = wire.ask("HEARTHSIDE STATUS");
    assert!(reply.starts_with("%17\r\n"), "{reply}");
    has_names(&reply, &names);
    let ready = |status: &Value| ["store", "upstream", "change_feed"].iter().all(|part| status[part]["state"] == "up");
    until("all lights are on", || ready(&facts(&sidecar, "/api/status")));
    let status = facts(&sidecar, "/api/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["config"]["file"], "built-in config.toml");
    assert_eq!((&status["clients"]["connected"], &status["mappings"]), (&1.into(), &4.into()));
    assert_eq!((&status["mappings_not_up"], &status["mappings_not_told"]), (&0.into(), &0.into()));
    assert_eq!(status["upstream"]["servers"][0]["endpoint"], redis.url().trim_end_matches('/'));
    assert!(status["change_feed"]["heard_ms_ago"].as_i64().is_some_and(|ago| (0..60_000).contains(&ago)), "{status}");
    assert_eq!(status["store"]["takes_writes"], true);
    assert!(wire.ask("HEARTHSIDE STATUS x").starts_with("-ERR "));
}

#[test]
fn a_store_that_is_away_is_told_with_the_reason_and_since_when() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(warnings::STORE_AWAY).set("STORE__CONNECT_TIMEOUT", "1s").start();
    until("the store is up", || facts(&sidecar, "/api/status")["store"]["state"] == "up");
    let up_since = facts(&sidecar, "/api/status")["store"]["since"].clone();
    postgres.stop();
    until("the store is away", || facts(&sidecar, "/api/status")["store"]["state"] == "down");
    until("the feed is away", || facts(&sidecar, "/api/status")["change_feed"]["state"] == "down");
    let status = facts(&sidecar, "/api/status");
    assert!(status["store"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{status}");
    assert_ne!(status["store"]["since"], up_since);
    assert_eq!(status["change_feed"]["gaps"], 1, "{status}");
    assert!(sidecar.wire().ask("HGET player:3:session hp").starts_with('-'));
    let failed = mapping(&sidecar, SESSION);
    assert_eq!((&failed["load_errors"], &failed["errors"]), (&1.into(), &1.into()), "{failed}");
    assert!(failed["last_error"].as_str().is_some_and(|text| text.starts_with("a load failed: ")), "{failed}");
    postgres.launch();
    until("the store is back", || facts(&sidecar, "/api/status")["store"]["state"] == "up");
    assert_eq!(facts(&sidecar, "/api/status")["store"]["why"], Value::Null);
}

#[test]
fn what_happens_to_a_mapping_is_counted_one_by_one() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let before = mapping(&sidecar, SESSION);
    assert_eq!((&before["hits"], &before["misses"], &before["hit_ratio"]), (&0.into(), &0.into(), &Value::Null));
    for _ in 0..40 {
        wire.ask("HGET player:1:session hp");
        Wire::tcp(sidecar.port).ask("HGET player:1:session hp");
    }
    wire.ask("HGET player:999999:session hp");
    wire.ask("HGET player:999999:session hp");
    wire.ask("EXISTS player:1:session player:999999:session");
    let read = mapping(&sidecar, SESSION);
    for (name, expected) in [("hits", 80), ("absent_hits", 2), ("misses", 2), ("loads", 2), ("entries", 2)] {
        assert_eq!(read[name], expected, "{name} in {read}");
    }
    assert!(read["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{read}");
    assert!(read["load_mean_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{read}");
    assert_eq!(read["hit_ratio"], 0.976);
    postgres.sql("UPDATE sessions SET hp = 5 WHERE character_id = 1");
    let invalidations = |facts: &Value| facts["invalidations"].as_u64().expect("a number");
    until("the change is seen", || invalidations(&mapping(&sidecar, SESSION)) == invalidations(&read) + 1);
    let changed = mapping(&sidecar, SESSION);
    assert_eq!((&changed["entries"], &changed["evictions"]), (&1.into(), &0.into()), "{changed}");
    assert!(changed["last_change_at"].is_string(), "{changed}");
    let definitions = mapping(&sidecar, "item:{item_id}:def");
    assert_eq!((&definitions["kind"], &definitions["hits"]), (&"definition".into(), &Value::Null));
    assert!(definitions["entries"].as_u64().is_some_and(|entries| entries > 10), "{definitions}");
    assert!(metric(&sidecar, "hearthside_load_seconds_sum") > 0.0);
    has_names(&wire.ask("HEARTHSIDE MAPPINGS"), &["mapping", "kind", "type", "state", "hits", "last_change_at"]);
}

#[test]
fn a_full_memory_is_told_by_its_mapping_and_a_reload_goes_on_counting() {
    let redis = Redis::start();
    let config = "[[caches]]\nkey = \"blob:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n\
        query = \"SELECT printf('%.*c', 20000, 'x') AS v WHERE $1 < 100\"\n";
    let sidecar = Sidecar::builder().redis(&redis).config(config).set("CACHE__MAX_BYTES", "100kb").start();
    let mut wire = sidecar.wire();
    (0..20).for_each(|i| _ = wire.ask(&format!("STRLEN blob:{i}")));
    until("some had to go", || mapping(&sidecar, "blob:{id:int}")["evictions"].as_u64().is_some_and(|n| n >= 15));
    let full = mapping(&sidecar, "blob:{id:int}");
    assert!(full["bytes"].as_u64().is_some_and(|bytes| bytes <= 100 << 10), "{full}");
    sidecar.configure(&config.replace("1h", "2h"));
    sidecar.signal("HUP");
    until("it is reloaded", || mapping(&sidecar, "blob:{id:int}")["ttl_ms"] == 7_200_000);
    wire.ask("STRLEN blob:1");
    let after = mapping(&sidecar, "blob:{id:int}");
    assert_eq!((&after["misses"], &after["loads"], &after["entries"]), (&21.into(), &21.into(), &1.into()), "{after}");
    assert_eq!(facts(&sidecar, "/api/status")["config"]["file"], "config.toml");
}

#[test]
fn nothing_is_shown_without_the_token() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("token");
    std::fs::write(&file, "a-long-secret\n").expect("written");
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("ADMIN__TOKEN_FILE", file.display().to_string())
        .expect(&[warnings::ADMIN_REFUSED])
        .start_guarded();
    for path in
        ["/api/status", "/api/mappings", "/api/key?key=a", "/api/top", "/api/slowlog", "/api/clients", "/api/events"]
    {
        assert_eq!(request(&sidecar, "GET", path).0, 401, "{path}");
        let shown = request_with(&sidecar, "GET", path, "Authorization: Bearer a-long-secret\r\n");
        assert_eq!(shown.0, 200, "{path}: {}", shown.1);
    }
}

/// Draws keys by their weight 1/rank^s.
fn drawn(keys: u64, s: f64, times: usize) -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-s);
            sum
        })
        .collect();
    let draw = || {
        let at = fastrand::f64() * sum;
        sums.partition_point(|up_to| *up_to < at) as u64
    };
    (0..times).map(|_| draw()).collect()
}

#[test]
fn the_hot_keys_of_the_last_minute_and_who_asks_are_told() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("token");
    std::fs::write(&file, "a-long-secret\n").expect("written");
    let config = "[[caches]]\nkey = \"n:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n\
        query = \"SELECT 'x' AS v WHERE $1 < 100000\"\n";
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .config(config)
        .set("ADMIN__TOKEN_FILE", file.display().to_string())
        .expect(&[warnings::ADMIN_REFUSED])
        .start_guarded();
    let shown = |path: &str| -> Vec<Value> {
        let (status, body) = request_with(&sidecar, "GET", path, "Authorization: Bearer a-long-secret\r\n");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME busy");
    let (keys, mut counts) = (drawn(2000, 1.1, 40_000), vec![0_usize; 2001]);
    for chunk in keys.chunks(500) {
        let mut sent = Vec::new();
        chunk.iter().for_each(|key| sent.extend(line(&format!("GET n:{key}"))));
        wire.send(&sent);
        chunk.iter().for_each(|key| counts[*key as usize] += 1);
        chunk.iter().for_each(|_| assert_eq!(wire.frame(), b"$1\r\nx\r\n"));
    }
    let mut ranks: Vec<usize> = (0..counts.len()).collect();
    ranks.sort_unstable_by_key(|rank| std::cmp::Reverse(counts[*rank]));
    let told = shown("/api/top");
    assert_eq!(told.len(), 20);
    let is_told = |rank: &&usize| told.iter().any(|facts| facts["key"] == format!("n:{rank}"));
    let found = ranks[..20].iter().filter(is_told).count();
    assert!(found >= 19, "{found} of the first 20: {told:?}, truly {:?}", &ranks[..22]);
    assert_eq!(told[0]["mapping"], "n:{id:int}");
    let (told_count, true_count) = (told[0]["count"].as_f64().expect("a number"), counts[ranks[0]] as f64);
    assert!((told_count / true_count - 1.0).abs() < 0.1, "{told_count} of {true_count}");
    assert_eq!(shown("/api/top?by=misses").len(), 20);
    assert_eq!(shown("/api/top?by=bytes")[0]["key"], told[0]["key"]);
    assert!(shown("/api/top?by=invalidations").is_empty());
    wire.ask(&format!("HEARTHSIDE INVALIDATE n:{}", ranks[0]));
    assert_eq!(shown("/api/top?by=invalidations")[0]["key"], told[0]["key"]);
    let busiest = &shown("/api/top?by=clients")[0];
    assert_eq!(busiest["name"], "busy");
    assert!(busiest["requests"].as_u64().is_some_and(|requests| requests >= 40_000), "{busiest}");
    for by in ["", " reads", " MISSES", " invalidations", " bytes"] {
        let reply = wire.ask(&format!("HEARTHSIDE TOP{by}"));
        assert!(reply.contains("n:"), "{by}: {reply}");
    }
    assert!(wire.ask("HEARTHSIDE TOP clients").contains("busy"));
    assert!(wire.ask("HEARTHSIDE TOP nothing").starts_with("-ERR "));
    assert_eq!(request(&sidecar, "GET", "/api/top").0, 401);
}

#[test]
fn without_a_token_there_are_no_keys_to_be_seen() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    (0..10).for_each(|_| _ = wire.ask("HGET player:1:session hp"));
    let told = facts(&sidecar, "/api/top");
    assert_eq!((&told[0]["key"], &told[0]["mapping"]), (&Value::Null, &SESSION.into()));
    assert_eq!(told[0]["count"], 10);
    wire.ask("HGET item:apple:def name");
    assert!(wire.ask("HEARTHSIDE TOP").contains("item:apple:def"), "definitions are hot keys, too");
    assert_eq!(request(&sidecar, "GET", "/api/top?by=x").0, 400);
}

#[test]
fn what_was_slow_is_remembered_with_client_mapping_and_cause() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).set("SLOWLOG__STORE", "300ms").set("SLOWLOG__COMMANDS", "300ms");
    let sidecar = builder.set("STORE__LOAD_PAUSE", "0s").start();
    let (mut wire, mut locker) = (sidecar.wire(), postgres.session());
    wire.ask("CLIENT SETNAME patient");
    assert!(wire.ask("HGET player:2:session hp").starts_with('$'));
    assert!(facts(&sidecar, "/api/slowlog").as_array().is_some_and(Vec::is_empty), "what is fast is not remembered");
    locker.run("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE;");
    wire.send(&line("HGET player:1:session hp"));
    wire.send(&line("HSET player:2:session level 9"));
    assert!(wire.is_silent(std::time::Duration::from_millis(400)), "both wait for the lock");
    locker.run("COMMIT;");
    assert!(wire.frame().starts_with(b"$") && wire.frame().starts_with(b":"));
    until("all of it is remembered", || facts(&sidecar, "/api/slowlog").as_array().is_some_and(|all| all.len() == 4));
    let all = facts(&sidecar, "/api/slowlog");
    let found = |kind: &str, command: Value| {
        let found = all.as_array().expect("a list").iter().find(|it| it["kind"] == kind && it["command"] == command);
        found.unwrap_or_else(|| panic!("{kind} {command} in {all}")).clone()
    };
    for slow in [
        found("command", "hget".into()),
        found("command", "hset".into()),
        found("load", Value::Null),
        found("write", Value::Null),
    ] {
        assert!(slow["ms"].as_f64().is_some_and(|ms| ms >= 300.0), "{slow}");
        assert_eq!((&slow["mapping"], &slow["key"]), (&SESSION.into(), &Value::Null), "keys are for the token");
        assert!(
            slow["cause"].as_str().is_some_and(|cause| cause.contains("store") || cause.contains("load")),
            "{slow}"
        );
    }
    assert_eq!(found("command", "hget".into())["name"], "patient");
    assert!(wire.ask("HEARTHSIDE SLOWLOG RESET").starts_with("+OK"));
    // Several keys, a transaction, and what was deferred and is saved meanwhile.
    locker.run("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE;");
    let mut other = sidecar.wire();
    ["MULTI", "HSET player:4:session level 9"].iter().for_each(|command| drop(other.ask(command)));
    other.send(&line("EXEC"));
    wire.send(&line("EXISTS player:5:session player:6:session elsewhere"));
    assert!(wire.is_silent(std::time::Duration::from_millis(400)), "both wait for the lock");
    locker.run("COMMIT;");
    assert!(wire.frame().starts_with(b":") && other.frame().starts_with(b"*1"));
    for command in ["exec", "exists"] {
        let slow = || {
            let all = facts(&sidecar, "/api/slowlog");
            all.as_array().is_some_and(|all| all.iter().any(|it| it["command"] == command && it["mapping"] == SESSION))
        };
        until(&format!("{command} is remembered"), slow);
    }
    let reply = wire.ask("HEARTHSIDE SLOWLOG");
    assert!(reply.contains("player:4:session") && reply.contains("patient"), "{reply}");
    assert!(wire.ask("HEARTHSIDE SLOWLOG 1").starts_with("*1\r\n"));
    assert!(wire.ask("HEARTHSIDE SLOWLOG x").starts_with("-ERR "));
    assert_eq!(wire.ask("HEARTHSIDE SLOWLOG RESET"), "+OK\r\n");
    assert_eq!(wire.ask("HEARTHSIDE SLOWLOG"), "*0\r\n");
}

#[test]
fn the_command_line_shows_what_the_admin_port_tells() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("token");
    std::fs::write(&file, "a-long-secret\n").expect("written");
    let token_file = file.display().to_string();
    let sidecar = Sidecar::builder().redis(&redis).set("ADMIN__TOKEN_FILE", &*token_file).start_guarded();
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let run = |arguments: &[&str], token: &str| {
        let program = Sidecar::builder().set("ADMIN__LISTEN", format!("127.0.0.1:{port}"));
        let output = program.set("ADMIN__TOKEN_FILE", token).execute(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME shown");
    for (arguments, expected) in [
        (&["status"][..], "store:\n  name: SQLite\n  state: up\n"),
        (&["mappings"], "mapping: player:{character_id:int}:session\n"),
        (&["explain", "player:1:session"], "state: in memory\n"),
        (&["explain", "player:1:session", "--plan"], "plan:\n"),
        (&["explain", "a key/with ?&%"], "owner: upstream\n"),
        (&["top"], "player:1:session"),
        (&["top", "clients"], "shown"),
        (&["clients"], "name: shown\n"),
        (&["status", "--json"], "{\"version\":\""),
    ] {
        until(&format!("{arguments:?} shows {expected}"), || {
            // The change feed's first word, which nobody without the token can wait for, empties memory.
            wire.ask("HGET player:1:session hp");
            let (code, out, error) = run(arguments, &token_file);
            assert_eq!((code, &*error), (Some(0), ""), "{arguments:?}");
            out.contains(expected)
        });
    }
    for arguments in [&["slowlog"][..], &["events"]] {
        assert_eq!(run(arguments, &token_file).0, Some(0), "{arguments:?}");
    }
    let (code, _, error) = run(&["top", "nothing"], &token_file);
    assert!(code == Some(1) && error.contains("write reads, misses"), "{error}");
    drop(sidecar);
    let (code, _, error) = run(&["status"], &token_file);
    assert!(code == Some(1) && error.contains("does not answer"), "{error}");
    let (code, _, error) = run(&["status"], "");
    assert!(code == Some(1) && error.contains("does not answer"), "{error}");
}

#[test]
fn warnings_are_events_that_are_counted_and_clients_are_listed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).set("LOG__LEVEL", "info").expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME seen");
    let clients = facts(&sidecar, "/api/clients");
    assert_eq!((&clients[0]["name"], &clients[0]["flags"]), (&"seen".into(), &"N".into()), "{clients}");
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    let event = |message: &str| {
        let events = facts(&sidecar, "/api/events");
        events.as_array().expect("a list").iter().find(|event| event["message"] == message).cloned()
    };
    until("the gap is an event", || event(warnings::FEED_LOST).is_some());
    let gap = event(warnings::FEED_LOST).expect("an event");
    assert_eq!((&gap["level"], &gap["count"]), (&"warn".into(), &1.into()));
    assert!(gap["details"].as_str().is_some_and(|details| details.starts_with("why=")), "{gap}");
    until("and its end is", || event("the change feed of Postgres is connected").is_some_and(|end| end["count"] == 2));
    sidecar.signal("HUP");
    until("so is a reload", || event("SIGHUP: the configuration is reloaded").is_some_and(|it| it["level"] == "info"));
}

#[test]
fn the_debug_log_follows_a_key_and_never_shows_what_it_holds() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).set("LOG__LEVEL", "info,hearthside=debug").start();
    let mut wire = sidecar.wire();
    postgres.sql("UPDATE sessions SET worker_id = 'a-secret-place' WHERE character_id = 1");
    assert!(wire.ask("HGET player:1:session worker_id").contains("a-secret-place"));
    wire.ask("EXISTS player:1:session elsewhere");
    wire.ask("HGET item:apple:def name");
    postgres.sql("UPDATE sessions SET hp = 1 WHERE character_id = 1");
    let said = |words: &[&str]| sidecar.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    for words in [
        &["an owned key is asked for", "command=\"hget\"", "key=player:1:session", "mapping=\"player:"][..],
        &["an owned key is asked for", "key=item:apple:def"],
        &["several keys are asked for", "command=\"exists\"", "keys=2"],
        &["a key was loaded", "key=player:1:session", "ms="],
        &["what was in memory of a key is forgotten", "key=player:1:session", "cause=\"change\""],
        &["everything in memory of a mapping is forgotten", "cause=\"start\""],
    ] {
        until(&format!("{words:?} is said"), || said(words));
    }
    assert!(!sidecar.log().contains("secret"));
    assert!(wire.ask("HOTKEYS GET").starts_with("-ERR unknown command"), "as the upstream says");
}
