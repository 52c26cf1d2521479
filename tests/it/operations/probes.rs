//! What operators see and do: probes, metrics, INFO, invalidation, shutdown, denied commands.

use crate::structure::texts::{quoted, rows};
use crate::support::admin::{metric, request};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::line;

#[test]
fn probes_and_metrics() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    assert_eq!(request(&sidecar, "GET", "/livez"), (200, "ok\n".into()));
    until("ready", || request(&sidecar, "GET", "/readyz") == (200, "ready\n".into()));
    let mut wire = sidecar.wire();
    for text in [
        "HGET item:apple:def name",
        "HGET item:nosuch:def name",
        "HGET player:1:session hp",
        "HGET player:1:session hp",
        "SET a 1",
        "SHUTDOWN",
        "PING",
    ] {
        wire.ask(text);
    }
    for (name, at_least) in [
        ("hearthside_commands_total{route=\"definition\",outcome=\"hit\"}", 1.0),
        ("hearthside_commands_total{route=\"definition\",outcome=\"absent\"}", 1.0),
        ("hearthside_commands_total{route=\"cache\",outcome=\"miss\"}", 1.0),
        ("hearthside_commands_total{route=\"cache\",outcome=\"hit\"}", 1.0),
        ("hearthside_commands_total{route=\"passthrough\",outcome=\"ok\"}", 1.0),
        ("hearthside_commands_total{route=\"refused\",outcome=\"error\"}", 1.0),
        ("hearthside_commands_total{route=\"local\",outcome=\"ok\"}", 1.0),
        ("hearthside_loads_total{outcome=\"ok\"}", 1.0),
        ("hearthside_load_seconds_count", 1.0),
        ("hearthside_lanes_connected", 1.0),
        ("hearthside_lane_connects_total", 1.0),
        ("hearthside_clients", 1.0),
        ("hearthside_definitions", 56.0),
        ("hearthside_client_in_bytes_total", 100.0),
        ("hearthside_client_out_bytes_total", 100.0),
        ("hearthside_store_up", 1.0),
    ] {
        assert!(metric(&sidecar, name) >= at_least, "{name} in\n{}", request(&sidecar, "GET", "/metrics").1);
    }
    until("the cache is measured", || metric(&sidecar, "hearthside_cache_entries") == 1.0);
    drop(wire);
    until("the client is gone", || metric(&sidecar, "hearthside_clients") == 0.0);
}

#[test]
fn health_is_ready_or_says_why_not() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let health = |port: u16| {
        let open = Sidecar::builder().set("SECURITY__ALLOW_NO_AUTH", "true");
        open.set("ADMIN__LISTEN", format!("0.0.0.0:{port}")).execute(&["health"])
    };
    until("ready", || health(port).status.success());
    let free = crate::support::free_port();
    let nobody = health(free);
    let told = String::from_utf8_lossy(&nobody.stderr).into_owned();
    let expected = format!("admin.listen: 127.0.0.1:{free} does not answer: Connection refused");
    assert!(nobody.status.code() == Some(1) && told.contains(&expected), "{told}");
}

#[test]
fn info_has_the_upstreams_sections_and_ours() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = sidecar.wire();
        wire.ask(hello);
        let info = wire.ask("INFO");
        assert!(info.contains("# Server\r\n") && info.contains("\r\n# Hearthside\r\nhearthside_clients:"), "{info}");
        assert_eq!(info.starts_with('='), hello == "HELLO 3");
        let ours = wire.ask("INFO hearthside");
        assert!(ours.contains("hearthside_definitions:56") && !ours.contains("# Server"), "{ours}");
        let theirs = wire.ask("INFO server");
        assert!(theirs.contains("# Server") && !theirs.contains("# Hearthside"), "{theirs}");
    }
}

#[test]
fn invalidation_by_command_by_admin_and_by_del() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let misses = || metric(&sidecar, "hearthside_commands_total{route=\"cache\",outcome=\"miss\"}");
    let mut warm = || (1..=5).for_each(|i| drop(wire.ask(&format!("LLEN player:{i}:inventory"))));
    warm();
    warm();
    assert_eq!(misses(), 5.0);
    let mut other = sidecar.wire();
    assert_eq!(other.ask("HEARTHSIDE INVALIDATE player:1:inventory"), ":1\r\n");
    assert_eq!(other.ask("HEARTHSIDE INVALIDATE player:1:inventory"), ":0\r\n");
    warm();
    assert_eq!(misses(), 6.0);
    assert_eq!(other.ask("HEARTHSIDE INVALIDATE player:[23]:*"), ":2\r\n");
    warm();
    assert_eq!(misses(), 8.0);
    assert_eq!(request(&sidecar, "POST", "/invalidate?key=player:*"), (200, "5\n".into()));
    warm();
    assert_eq!(misses(), 13.0);
    assert_eq!(other.ask("DEL player:1:inventory player:2:inventory nosuch"), ":2\r\n");
    warm();
    assert_eq!(misses(), 15.0);
    assert_eq!(request(&sidecar, "GET", "/invalidate?key=a").0, 405);
    assert!(other.ask("HEARTHSIDE NOPE").starts_with("-ERR unknown HEARTHSIDE subcommand"));
    assert!(other.ask("HEARTHSIDE HELP").contains("INVALIDATE"));
}

#[test]
fn commands_over_both_kinds_of_keys_are_split_and_joined() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.ask("MSET a 1 b 2");
    assert_eq!(wire.ask("EXISTS a player:1:session b nosuch location:ruins:cache player:1:session"), ":5\r\n");
    assert_eq!(
        wire.ask("MGET a player:1:session nosuch b location:ruins:cache"),
        "*5\r\n$1\r\n1\r\n$-1\r\n$-1\r\n$1\r\n2\r\n$-1\r\n"
    );
    assert_eq!(wire.ask("TOUCH a player:1:session nosuch"), ":2\r\n");
    assert_eq!(wire.ask("UNLINK a player:1:session b"), ":3\r\n");
    assert_eq!(wire.ask("EXISTS a b"), ":0\r\n");
    let stats = redis.wire().ask("INFO commandstats");
    assert!(stats.contains("cmdstat_unlink:calls=1"), "{stats}");
}

#[test]
fn denied_commands_are_refused_and_the_list_is_configs() {
    let redis = Redis::with(&["--enable-debug-command", "local"]);
    let sidecar = Sidecar::builder().redis(&redis).start();
    for command in ["SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "MODULE UNLOAD x", "REPLICAOF NO ONE"] {
        let told = sidecar.wire().ask(command);
        assert!(told.starts_with("-NOPERM hearthside:") && told.contains("security.deny"), "{told}");
    }
    let open = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "").start();
    assert_eq!(open.wire().ask("DEBUG SLEEP 0"), "+OK\r\n");
    let strict = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "flushall, KEYS").start();
    assert!(strict.wire().ask("FLUSHALL").starts_with("-NOPERM"));
    assert_eq!(strict.wire().ask("MODULE LIST"), "*0\r\n");
}

#[test]
fn sigterm_answers_what_is_owed_and_exits_0() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::builder().redis(&redis).start();
    let (mut busy, mut blocked, mut idle) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    blocked.send(&line("BLPOP nosuch 0"));
    idle.ask("PING");
    let mut direct = redis.wire();
    until("it is blocked", || direct.ask("INFO clients").contains("blocked_clients:1"));
    direct.ask("CLIENT PAUSE 200 ALL");
    busy.send(&line("SET owed 1"));
    until("the sidecar has it", || {
        metric(&sidecar, "hearthside_commands_total{route=\"passthrough\",outcome=\"ok\"}") >= 1.0
    });
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(busy.try_frame().as_deref(), Some(&b"+OK\r\n"[..]));
    assert!(idle.try_frame().is_none() && blocked.try_frame().is_none());
    assert!(std::net::TcpStream::connect(("127.0.0.1", sidecar.port)).is_err());
}

#[test]
fn logs_can_be_json() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LOG__FORMAT", "json").start_json();
    let line = sidecar.log().lines().next().map(str::to_owned).expect("a line");
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert!(value["fields"]["message"].is_string() && value["timestamp"].is_string(), "{line}");
}

/// What an alert looks for must be there before it happens: a counter that begins at 1 shows no rise.
#[test]
fn every_metric_is_shown_from_the_start_with_the_labels_that_are_known() {
    let redis = Redis::start();
    let (rows_go, deferring) = ("delete = \"row\"", "delete = \"row\"\ndeferred = [\"hp\"]\n");
    let more = "[[near]]\nkeys = \"cfg:*\"\n[[users]]\nname = \"default\"\nnopass = true\ncommands = [\"@all\"]\n\
        keys = [\"*\"]\nrate = \"9000/s\"\n";
    let config = hearthside::config::SHIPPED.replacen(rows_go, &format!("{deferring}load_rate = \"9000/s\"\n"), 1);
    let config = config.replacen("mode = \"on\"", "mode = \"fallback\"", 1);
    let config = config.replacen("table = \"items\"\n", "table = \"items\"\nmode = \"shadow\"\n", 1);
    let builder = Sidecar::builder().redis(&redis).config(&(config + more)).set("AUTH__MODE", "users");
    let sidecar = builder.start();
    let (_, shown) = request(&sidecar, "GET", "/metrics");
    let documented = rows("docs/OPERATIONS.md", "## Probes and metrics");
    assert!(documented.len() > 40);
    for row in documented {
        let name = quoted(&row[0]).next().expect("a name");
        let (name, labels) = name.split_once('{').map_or((name, None), |(name, label)| (name, Some(label)));
        let begin = labels.map_or_else(
            || name.to_owned(),
            |label| format!("{name}{{{}=", label.split([',', '}']).next().unwrap_or("")),
        );
        let begin = if row[1] == "histogram" { format!("{name}_count") } else { begin };
        assert!(shown.lines().any(|line| line.starts_with(&begin)), "{begin} is not shown");
    }
    let value = |name: &str, label: &str, value: &str| format!("hearthside_{name}{{{label}=\"{value}\"}} 0");
    let limits = rows("docs/OPERATIONS.md", "### Limits that are counted");
    let mut zeros: Vec<String> = limits
        .iter()
        .flat_map(|row| quoted(&row[0]).map(|limit| value("limits_reached_total", "limit", limit)).collect::<Vec<_>>())
        .collect();
    for (name, label, values) in [
        ("logins_refused_total", "reason", &["password", "upstream"][..]),
        ("commands_denied_total", "by", &["rules", "deny", "private"]),
        ("clients_refused_total", "reason", &["clients", "clients_per_address", "buffers"]),
        ("admin_refused_total", "reason", &["origin", "host", "token", "elsewhere", "connections"]),
        ("config_reloads_total", "outcome", &["ok", "error"]),
        ("flushes_total", "outcome", &["ok", "error"]),
        ("stale_reads_total", "mapping", &["player:{character_id:int}:session"]),
        ("deferred_without_row_total", "mapping", &["player:{character_id:int}:session"]),
    ] {
        zeros.extend(values.iter().map(|text| value(name, label, text)));
    }
    for line in zeros {
        assert!(shown.contains(&line), "{line} is not shown:\n{shown}");
    }
}
