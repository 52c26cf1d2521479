//! What is refused is refused in every state of a connection, and HTTP ends every client.

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// States that a client can be in, as what it says to get there; each is answered with one frame.
const STATES: [(&str, &[&str]); 10] = [
    ("fresh", &[]),
    ("monitor", &["MONITOR"]),
    ("subscriber in RESP2", &["SUBSCRIBE game:1"]),
    ("subscriber in RESP3", &["HELLO 3", "SUBSCRIBE game:1"]),
    ("subscriber of a pattern who monitors", &["PSUBSCRIBE game:*", "RESET", "MONITOR"]),
    ("transaction", &["MULTI", "SET player:1 1"]),
    ("watching", &["WATCH player:1"]),
    ("tracking", &["HELLO 3", "CLIENT TRACKING ON"]),
    ("debugging", &["SCRIPT DEBUG YES"]),
    ("another database", &["SELECT 3"]),
];

fn in_state(sidecar: &Sidecar, state: &[&str]) -> Wire {
    let mut wire = sidecar.wire();
    for words in state {
        let told = wire.ask(words);
        assert!(!told.starts_with('-'), "{words}: {told}");
    }
    wire
}

#[test]
fn what_is_denied_is_refused_in_every_state() {
    let redis = Redis::with(&["--enable-debug-command", "yes"]);
    let sidecar = Sidecar::builder().redis(&redis).start();
    for (name, state) in STATES {
        let mut wire = in_state(&sidecar, state);
        for command in
            ["SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "REPLICAOF NO ONE", "MODULE LOAD x", "FAILOVER", "PSYNC ? -1"]
        {
            let told = wire.ask_monitoring(command);
            assert!(told.starts_with("-NOPERM hearthside: "), "{name}: {command}: {told}");
        }
        if name == "transaction" {
            assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
        }
    }
    assert_eq!(redis.wire().ask("PING"), "+PONG\r\n", "it was never shut down");
}

#[test]
fn a_monitor_reads_no_owned_key_and_ends_nobody_elses_connection() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut monitor, mut other) = (in_state(&sidecar, &["MONITOR"]), sidecar.wire());
    other.ask("SET a 1");
    for command in ["HGET item:apple:def name", "DEL a player:1:session", "GET a"] {
        let told = monitor.ask_monitoring(command);
        assert_eq!(told, "-ERR Replica can't interact with the keyspace\r\n", "{command}");
    }
    assert!(monitor.ask_monitoring("RENAME a player:1:session").contains("is not answered on the owned key"));
    assert!(
        monitor.ask_monitoring("CLIENT UNBLOCK 1").starts_with("-ERR hearthside: "),
        "ids here are not the upstream's"
    );
    assert_eq!(monitor.ask_monitoring("CLIENT KILL TYPE pubsub"), ":0\r\n", "of the sidecar's own clients");
    assert_eq!(other.ask("GET a"), "$1\r\n1\r\n");
}

/// Closed at its first word, with nothing of what stands behind it done.
fn is_closed_by_http(mut wire: Wire, what: &str) {
    let text = if what.starts_with("POST") { "POST / HTTP/1.1\r\nHost: x\r\n\r\n" } else { "host: x\r\n\r\n" };
    wire.send(format!("{text}SET pub:hacked 1\r\n").as_bytes());
    let told = String::from_utf8_lossy(&wire.rest()).into_owned();
    assert!(!["NOAUTH", "NOPERM", "QUEUED", "ERR"].iter().any(|word| told.contains(word)), "{what}: {told}");
}

#[test]
fn http_closes_a_client_in_every_state() {
    let redis = Redis::start();
    let limited = [("LIMITS__REQUESTS_PER_SECOND", "1")];
    for settings in [&[][..], &limited, &[("PUBSUB__MODE", "shared")]] {
        let mut builder = Sidecar::builder().redis(&redis).expect(&[warnings::SPEAKS_HTTP]);
        for (name, value) in settings {
            builder = builder.set(name, *value);
        }
        let sidecar = builder.start();
        for what in ["POST", "Host"] {
            if *settings == limited {
                let mut wire = sidecar.wire();
                while !wire.ask("GET pub:hacked").contains("limits.requests_per_second") {}
                is_closed_by_http(wire, what);
                continue;
            }
            for (name, state) in STATES {
                is_closed_by_http(in_state(&sidecar, state), &format!("{what}, {name}"));
            }
            let mut silent = sidecar.wire();
            silent.send(&line("CLIENT REPLY OFF"));
            is_closed_by_http(silent, what);
        }
    }
    assert_eq!(redis.wire().ask("GET pub:hacked"), "$-1\r\n");
}

/// A default user without a password who may write; one with a password.
const USERS: &str = r#"
[auth]
mode = "users"
[[users]]
name = "default"
nopass = true
commands = ["get", "set"]
keys = ["pub:*"]
[[users]]
name = "game"
passwords = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
commands = ["@all"]
keys = ["*"]
channels = ["*"]
"#;

#[test]
fn http_closes_a_client_whoever_it_is() {
    let redis = Redis::start();
    let secret = USERS.replace("nopass = true", "");
    for (config, login) in [(USERS, None), (USERS, Some("AUTH game secret")), (&secret, None)] {
        let sidecar = Sidecar::builder().redis(&redis).config(config).expect(&[warnings::SPEAKS_HTTP]).start();
        for what in ["POST", "Host"] {
            let mut wire = sidecar.wire();
            if let Some(login) = login {
                assert_eq!(wire.ask(login), "+OK\r\n");
                assert_eq!(wire.ask("MULTI"), "+OK\r\n");
            }
            is_closed_by_http(wire, what);
        }
    }
    let mut direct = redis.wire();
    assert_eq!(direct.ask("GET pub:hacked"), "$-1\r\n");
    assert_eq!(direct.ask("ACL SETUSER other on >word ~* +@all &*"), "+OK\r\n");
    assert_eq!(direct.ask("ACL SETUSER default off"), "+OK\r\n");
    let url = format!("redis://other:word@127.0.0.1:{}", redis.port);
    let upstream = Sidecar::builder().set("UPSTREAM__URL", url).set("AUTH__MODE", "upstream");
    let sidecar = upstream.expect(&[warnings::SPEAKS_HTTP, warnings::LANE_CLOSED, warnings::NOT_OPENED]).start();
    is_closed_by_http(sidecar.wire(), "POST");
    is_closed_by_http(sidecar.wire(), "Host");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH other word"), "+OK\r\n");
    assert_eq!(wire.ask("GET pub:hacked"), "$-1\r\n");
    is_closed_by_http(wire, "POST");
}

/// The configuration that docs/OPERATIONS.md shows for users.
fn documented() -> String {
    let document = include_str!("../../../docs/OPERATIONS.md");
    let from = document.find("[auth]\nmode = \"users\"").expect("an example");
    let length = document[from..].find("```").expect("its end");
    let mappings = "\n[[definitions]]\nkey = \"item:{item_id}:def\"\ntype = \"hash\"\ntable = \"items\"\n";
    format!("{}{mappings}", &document[from..from + length])
}

#[test]
fn the_documented_user_does_nothing_to_others_and_touches_no_other_key() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(&documented()).start();
    let mut direct = redis.wire();
    direct.ask("GEOADD lock:geo 1 1 m");
    direct.ask("SET secret kept");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH game secret"), "+OK\r\n");
    for command in ["PAUSE 2000", "RESUME", "RELOAD", "INVALIDATE *", "INVALIDATE item:apple:def", "NOSUCH"] {
        let told = wire.ask(&format!("HEARTHSIDE {command}"));
        assert!(told.starts_with("-NOPERM this user has no permissions to run the 'hearthside"), "{command}: {told}");
    }
    for command in [
        "GEORADIUS lock:geo 1 1 10 km STORE lock:d STORE secret",
        "GEORADIUS lock:geo 1 1 10 km STORE secret STORE lock:d",
        "GEORADIUS lock:geo 1 1 10 km STOREDIST lock:d STOREDIST secret",
        "GEORADIUSBYMEMBER lock:geo m 10 km STORE lock:d STOREDIST secret",
        "XREADGROUP COUNT 1 GROUP lock:g streams STREAMS secret >",
    ] {
        assert!(
            wire.ask(command).starts_with("-NOPERM this user has no permissions to access one of the keys"),
            "{command}"
        );
    }
    assert!(wire.ask("GEORADIUS lock:geo 1 1 10 km STORE player:1 STORE item:apple:def").contains("owned key"));
    assert_eq!(direct.ask("GET secret"), "$4\r\nkept\r\n");
    assert_eq!(direct.ask("DBSIZE"), ":2\r\n", "and nothing was made of an owned key");
    assert_eq!(wire.ask("GEORADIUS lock:geo 1 1 10 km STORE lock:d STORE lock:e"), ":1\r\n");
}

#[test]
fn shard_channels_are_channels_and_no_keys() {
    let redis = Redis::start();
    let config = documented().replace("channels = [\"*\"]", "channels = [\"game:*\"]");
    let sidecar = Sidecar::builder().redis(&redis).config(&config).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH game secret"), "+OK\r\n");
    assert_eq!(wire.ask("SPUBLISH game:1 hi"), ":0\r\n");
    for command in ["SPUBLISH player:1 hi", "SSUBSCRIBE player:1"] {
        assert!(wire.ask(command).starts_with("-NOPERM this user has no permissions to access one of the channels"));
    }
    assert!(wire.ask("SSUBSCRIBE game:1").contains("$10\r\nssubscribe\r\n$6\r\ngame:1\r\n:1\r\n"));
    // A channel may be called like an owned key.
    let open = Sidecar::builder().redis(&redis).start();
    assert_eq!(open.wire().ask("SPUBLISH item:apple:def hi"), ":0\r\n");
}

#[test]
fn modules_are_listed_and_not_loaded() {
    let redis = Redis::with(&["--enable-module-command", "yes"]);
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("MODULE LIST"), "*0\r\n");
    assert!(wire.ask("MODULE HELP").starts_with('*'));
    for command in ["MODULE LOAD /tmp/x.so", "module loadex /tmp/x.so", "MODULE UNLOAD x"] {
        let told = wire.ask(command);
        let name = command.split(' ').take(2).collect::<Vec<_>>().join(" ").to_uppercase();
        assert!(told.starts_with(&format!("-NOPERM hearthside: {name} is denied by security.deny")), "{told}");
    }
}
