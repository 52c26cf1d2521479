//! SIGHUP: the configuration is read again while clients stay connected.

use std::fs;

use hearthside::config::SHIPPED;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::process::status;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

/// Writes another configuration and waits until it is in force, or refused.
pub fn reload(sidecar: &Sidecar, text: &str) {
    let done = |outcome: &str| metric(sidecar, &format!("hearthside_config_reloads_total{{outcome=\"{outcome}\"}}"));
    let before = done("ok") + done("error");
    sidecar.configure(text);
    sidecar.signal("HUP");
    until("the configuration is read", || done("ok") + done("error") > before);
}

const DEFAULT: &str = r#"
[[users]]
name = "default"
nopass = true
commands = ["@all"]
keys = ["*"]
channels = ["*"]
"#;

/// One more user; the password is its name.
fn user(name: &str, hash: &str, commands: &str) -> String {
    format!("[[users]]\nname = \"{name}\"\npasswords = [\"{hash}\"]\ncommands = [{commands}]\nkeys = [\"*\"]\n")
}

const ANN: &str = "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1";
const BOB: &str = "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9";

#[test]
fn users_change_under_those_who_are_in() {
    let redis = Redis::start();
    let with = |users: &[String]| {
        let asks = SHIPPED.replace("mode = \"none\"", "mode = \"users\"");
        assert_ne!(asks, SHIPPED);
        format!("{asks}{DEFAULT}{}", users.concat())
    };
    let (ann, bob) = (|commands| user("ann", ANN, commands), user("bob", BOB, "\"@all\""));
    let first = with(&[ann("\"@all\""), bob]);
    let sidecar = Sidecar::builder().redis(&redis).config(&first).expect(&[warnings::LOGIN_REFUSED]).start();
    let [mut anns, mut bobs, mut nobodys] = [(); 3].map(|()| sidecar.wire());
    assert_eq!(anns.ask("AUTH ann ann"), "+OK\r\n");
    assert_eq!(bobs.ask("AUTH bob bob"), "+OK\r\n");
    assert_eq!(anns.ask("SET a 1"), "+OK\r\n");
    reload(&sidecar, &with(&[ann("\"get\"")]));
    assert_eq!(anns.ask("GET a"), "$1\r\n1\r\n", "she stays in");
    assert!(anns.ask("SET a 2").starts_with("-NOPERM"), "by the rules of now");
    assert!(bobs.try_frame().is_none(), "a user that is gone is closed");
    let log = sidecar.log();
    let said = log.lines().find(|line| line.contains("a client's user is gone")).expect("a line");
    assert!(said.contains("user=\"bob\"") && said.contains("address=\"127.0.0.1:"), "{said}");
    assert_eq!(nobodys.ask("GET a"), "$1\r\n1\r\n");
    assert!(sidecar.wire().ask("AUTH bob bob").starts_with("-WRONGPASS"));
}

#[test]
fn limits_and_denied_commands_change() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .config(SHIPPED)
        .expect(&[warnings::NEEDS_A_RESTART, warnings::NO_ROOM])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let changed = SHIPPED
        .replace("clients = 10000", "clients = 1")
        .replace("request_arguments = 1048576", "request_arguments = 3")
        .replace("\"SHUTDOWN\", ", "\"SHUTDOWN\", \"GETDEL\", ")
        .replace("lanes = 2", "lanes = 5");
    reload(&sidecar, &changed);
    assert!(wire.ask("GETDEL a").contains("security.deny"));
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(String::from_utf8_lossy(&sidecar.wire().rest()), "-ERR max number of clients reached\r\n");
    assert!(wire.ask("MGET a b c").contains("limits.request_arguments"));
    assert!(sidecar.log().contains("setting=\"upstream.lanes\""), "what needs a restart is named");
}

#[test]
fn a_file_that_was_there_at_start_must_be_there_at_a_reload() {
    let redis = Redis::start();
    let mapping = NOTES.trim_start();
    let sidecar = Sidecar::builder().redis(&redis).config(mapping).expect(&[warnings::FAULTY_RELOAD]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET item:apple:def name"), "$-1\r\n", "the file has no such mapping");
    let (file, away) = (sidecar.folder.path().join("config.toml"), sidecar.folder.path().join("config.old"));
    fs::rename(&file, &away).expect("moved");
    sidecar.signal("HUP");
    let faulty = || metric(&sidecar, "hearthside_config_reloads_total{outcome=\"error\"}");
    until("the reload is refused", || faulty() == 1.0);
    assert!(sidecar.log().contains("config.toml: --config: cannot be read: No such file"), "{}", sidecar.log());
    assert_eq!(wire.ask("HGET item:apple:def name"), "$-1\r\n", "the old configuration stays");
    assert!(wire.ask("GET note:1").starts_with('$'));
    fs::rename(&away, &file).expect("moved");
    reload(&sidecar, mapping);
    assert_eq!(faulty(), 1.0);
}

const NOTES: &str = "\n[[caches]]\nkey = \"note:{character_id:int}\"\ntype = \"string\"\ntable = \"sessions\"\nvalue \
    = \"location_id\"\n";

#[test]
fn mappings_come_and_go() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(SHIPPED).expect(&[warnings::FAULTY_RELOAD]).start();
    let mut wire = sidecar.wire();
    let loaded = |log: &str| log.lines().filter(|line| line.contains("definitions loaded")).count();
    assert_eq!(loaded(&sidecar.log()), 2, "each mapping of definitions once: {}", sidecar.log());
    assert_eq!(wire.ask("SET note:1 through"), "+OK\r\n");
    assert_eq!(wire.ask("GET note:1"), "$7\r\nthrough\r\n");
    assert_eq!(wire.ask("HSET player:1:session hp 98"), ":0\r\n");
    reload(&sidecar, &format!("{SHIPPED}{NOTES}"));
    let location = wire.ask("HGET player:1:session location_id");
    assert_eq!(wire.ask("GET note:1"), location, "the key is owned now");
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n98\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    let (status, _) = request(&sidecar, "POST", "/invalidate?key=note:1");
    assert_eq!(status, 200);
    assert_eq!(metric(&sidecar, "hearthside_change_feed_up"), 1.0);
    // A table that is not there: nothing changes, not even the rest of the file.
    let faulty = format!("{SHIPPED}{}", NOTES.replace("sessions", "nosuch")).replace("clients = 10000", "clients = 1");
    reload(&sidecar, &faulty);
    let line = 1 + faulty.lines().position(|line| line == "table = \"nosuch\"").expect("the block");
    let expected = format!("config.toml:{line}: caches[2].table: there is no table 'nosuch'");
    assert!(sidecar.log().contains(&expected), "{}", sidecar.log());
    assert_eq!(sidecar.wire().ask("GET note:1"), location);
    reload(&sidecar, SHIPPED);
    assert_eq!(wire.ask("GET note:1"), "$7\r\nthrough\r\n", "it passes through again");
    assert_eq!(wire.ask("HSET player:1:session hp 97"), ":0\r\n");
    assert_eq!(sidecar.wire().ask("HGET player:1:session hp"), "$2\r\n97\r\n");
}

#[test]
fn a_transaction_of_before_a_reload_is_not_run_after_it() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(SHIPPED).start();
    let [mut queued, mut watching, mut plain] = [(); 3].map(|()| sidecar.wire());
    queued.ask("MULTI");
    assert_eq!(queued.ask("HSET player:1:session hp 1"), "+QUEUED\r\n");
    assert_eq!(watching.ask("WATCH player:1:session"), "+OK\r\n");
    plain.ask("MULTI");
    reload(&sidecar, &format!("{SHIPPED}{NOTES}"));
    assert!(queued.ask("EXEC").starts_with("-EXECABORT hearthside: the configuration was reloaded"));
    assert_eq!(queued.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    watching.ask("MULTI");
    watching.ask("HSET player:1:session hp 1");
    assert!(watching.ask("EXEC").starts_with("-EXECABORT"));
    assert!(plain.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(queued.ask("MULTI"), "+OK\r\n");
    assert_eq!(queued.ask("HSET player:1:session hp 2"), "+QUEUED\r\n");
    assert_eq!(queued.ask("EXEC"), "*1\r\n:0\r\n", "the next one runs");
    // A reload that changes no mapping leaves transactions alone.
    queued.ask("MULTI");
    reload(&sidecar, &format!("{SHIPPED}{NOTES}").replace("clients = 10000", "clients = 9999"));
    assert_eq!(queued.ask("EXEC"), "*0\r\n");
}

/// A client that is busy for long with what it began before stays with the mappings, users and latest hits of then.
#[test]
fn a_client_that_is_busy_through_many_reloads_keeps_none_of_those_between() {
    const LENGTH: usize = 1_000_000;
    let redis = Redis::start();
    let rows = |ttl: usize| {
        format!(
            "[[caches]]\nkey = \"row:{{id:int}}\"\ntype = \"string\"\nvalue = \"text\"\nttl = \"{ttl}h\"\n\
             query = \"SELECT hex(zeroblob({})) AS text WHERE $1 > 0\"\n",
            LENGTH / 2
        )
    };
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").config(&rows(1)).start();
    let (mut busy, mut others) = (sidecar.wire(), sidecar.wire());
    busy.send(format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$4000000\r\n{}", "h".repeat(2_000_000)).as_bytes());
    until("it is being passed on", || metric(&sidecar, "hearthside_pinned") == 1.0);
    let before = status(sidecar.pid(), "VmRSS");
    for ttl in 2..20 {
        for id in (1..=20).flat_map(|id| [id, id]) {
            assert_eq!(others.ask(&format!("GET row:{id}")).len(), LENGTH + 12);
        }
        reload(&sidecar, &rows(ttl));
    }
    let most = (status(sidecar.pid(), "VmHWM") - before) / 1024;
    assert!(most < 200, "{most} MiB");
    busy.send(format!("{}\r\n", "h".repeat(2_000_000)).as_bytes());
    assert_eq!(busy.frame(), b"+OK\r\n");
    assert_eq!(busy.ask("GET row:1").len(), LENGTH + 12, "and goes over then");
}

#[test]
fn a_signal_that_comes_while_the_configuration_is_reloaded_is_not_lost() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(Sidecar::builder().postgres(&postgres).execute(&["migrate", "--demo"]).status.success());
    let proxy = Proxy::to(postgres.port);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).migrated().config(SHIPPED);
    let sidecar = builder.set("STORE__URL", postgres.url_at(proxy.port)).start();
    // Other mappings are planned by questions to the store, which are on their way for now.
    let other = SHIPPED.replace("ttl = \"30m\"", "ttl = \"31m\"");
    assert_ne!(other, SHIPPED);
    let question = proxy.trap("sessions");
    sidecar.configure(&other);
    sidecar.signal("HUP");
    until("it is being reloaded", || question.has_caught());
    let denies = other.replace("\"SHUTDOWN\", ", "\"SHUTDOWN\", \"GETDEL\", ");
    assert_ne!(denies, other);
    sidecar.configure(&denies);
    sidecar.signal("HUP");
    question.release();
    let mut wire = sidecar.wire();
    until("the latest is in force", || wire.ask("GETDEL a").contains("security.deny"));
}

#[test]
fn a_reload_right_after_connections_to_the_store_have_ended_is_not_refused() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE a (id INT PRIMARY KEY, v TEXT); INSERT INTO a VALUES (1, 'x')");
    let block = |key: &str| format!("[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"hash\"\ntable = \"a\"\n");
    let config = |keys: &[&str]| keys.iter().map(|key| block(key)).collect::<String>();
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config(&["a"])).migrated();
    let sidecar = builder
        .set("STORE__SCHEMA_INTERVAL", "1h")
        .expect(warnings::STORE_AWAY)
        .expect(&[warnings::NO_TRIGGERS])
        .start();
    let mut keys = vec!["a"];
    for key in ["b", "c", "d", "e", "f", "g"] {
        keys.push(key);
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'");
        reload(&sidecar, &config(&keys));
        assert_eq!(metric(&sidecar, "hearthside_config_reloads_total{outcome=\"error\"}"), 0.0, "{}", sidecar.log());
    }
    until("it is served", || sidecar.wire().ask("HGET g:1 v") == "$1\r\nx\r\n");
}
