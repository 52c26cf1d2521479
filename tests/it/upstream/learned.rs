//! Commands that the built-in table does not have: what the upstream says of them decides how they travel.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::operations::reload::reload;
use crate::support::admin::metric;
use crate::support::proxy::{Proxy, Spoil};
use crate::support::redis::{Redis, SERVERS, Server, module, odd_module};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// A server under whose name no client finds these commands, with a sidecar before it that lets everything pass.
fn renaming(renamed: &[(&str, &str)]) -> (Redis, Sidecar) {
    let arguments: Vec<&str> = renamed.iter().flat_map(|(old, new)| ["--rename-command", *old, *new]).collect();
    let redis = Redis::with(&arguments);
    let sidecar = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "DEBUG").start();
    (redis, sidecar)
}

/// How often the server was asked about a name.
fn asked(redis: &Redis) -> usize {
    let told = redis.wire().ask("INFO commandstats");
    let line = told.lines().find(|line| line.starts_with("cmdstat_command|info:")).unwrap_or_default();
    line.split(['=', ',']).nth(1).and_then(|calls| calls.parse().ok()).unwrap_or(0)
}

#[test]
fn a_name_that_nobody_knew_is_asked_for_once_and_then_shares_a_lane() {
    let (redis, sidecar) = renaming(&[("GETDEL", "TAKE"), ("LPUSH", "PUT")]);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("PUT list a b"), ":2\r\n");
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(wire.ask("TAKE a"), "$1\r\n1\r\n");
    assert_eq!(asked(&redis), 2);
    let mut others: Vec<Wire> = (0..20).map(|_| sidecar.wire()).collect();
    for other in &mut others {
        assert_eq!(other.ask("take a"), "$-1\r\n");
        assert!(other.ask("PUT list a").starts_with(':'));
    }
    assert_eq!(asked(&redis), 2, "what is known is not asked for again");
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0, "none of them needs a connection of its own");
}

#[test]
fn a_renamed_command_that_waits_holds_nobody_up() {
    let (redis, sidecar) = renaming(&[("BLPOP", "AWAIT"), ("XREAD", "WATCHLOG")]);
    let (mut waiting, mut other) = (sidecar.wire(), sidecar.wire());
    for _ in 0..2 {
        waiting.send(&line("AWAIT q 0"));
        until("it waits", || redis.wire().ask("INFO clients").contains("blocked_clients:1"));
        assert_eq!(other.ask("SET a 1"), "+OK\r\n");
        assert_eq!(other.ask("RPUSH q x"), ":1\r\n");
        assert_eq!(String::from_utf8_lossy(&waiting.frame()), "*2\r\n$1\r\nq\r\n$1\r\nx\r\n");
    }
    assert_eq!(waiting.ask("WATCHLOG STREAMS nosuch 0"), "*-1\r\n");
    waiting.send(&line("AWAIT q 0"));
    until("it waits", || redis.wire().ask("INFO clients").contains("blocked_clients:1"));
    drop(waiting);
    until("it does not wait any more", || redis.wire().ask("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn an_owned_key_is_found_whatever_a_command_is_called() {
    let (redis, sidecar) =
        renaming(&[("GETDEL", "TAKE"), ("ZUNIONSTORE", "UNITE"), ("XREAD", "WATCHLOG"), ("OBJECT", "THING")]);
    redis.wire().ask("SET item:apple:def stranger");
    let mut wire = sidecar.wire();
    for request in [
        "TAKE item:apple:def",
        "TAKE item:apple:def",
        "UNITE d 2 a item:apple:def",
        "WATCHLOG COUNT 1 STREAMS item:apple:def 0",
        "THING ENCODING item:apple:def",
    ] {
        let told = wire.ask(request);
        assert!(told.contains("is not answered on the owned key 'item:apple:def'"), "{request}: {told}");
    }
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    let told = wire.ask("TAKE item:apple:def");
    assert!(told.contains("is not answered on the owned key"), "{told}");
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(redis.wire().ask("GET item:apple:def"), "$8\r\nstranger\r\n", "the upstream's namesake is untouched");
}

#[test]
fn the_first_use_inside_a_transaction_is_queued() {
    let (_redis, sidecar) = renaming(&[("GETDEL", "TAKE")]);
    let mut wire = sidecar.wire();
    wire.send(&["SET a 1", "MULTI", "TAKE a", "NOSUCH b", "EXEC", "PING"].map(line).concat());
    let told: Vec<String> = (0..6).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(told[..3], ["+OK\r\n", "+OK\r\n", "+QUEUED\r\n"]);
    assert!(told[3].starts_with("-ERR unknown command 'NOSUCH'"), "{told:?}");
    assert!(told[4].starts_with("-EXECABORT") && told[5] == "+PONG\r\n", "{told:?}");
    wire.send(&["MULTI", "TAKE a", "EXEC"].map(line).concat());
    let told: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(told, ["+OK\r\n", "+QUEUED\r\n", "*1\r\n$1\r\n1\r\n"]);
}

/// As a server before Redis 7 answers: it says that there is such a command, and nothing of subcommands.
#[test]
fn what_may_be_a_subcommand_of_a_server_that_names_none_leaves_owned_keys_alone() {
    let (redis, sidecar) = renaming(&[("XGROUP", "XOTHER"), ("GETDEL", "XGROUP")]);
    redis.wire().ask("MSET item:apple:def stranger a 1");
    let mut wire = sidecar.wire();
    for _ in 0..2 {
        let told = wire.ask("XGROUP item:apple:def");
        assert!(told.contains("XGROUP may touch the owned key 'item:apple:def'"), "{told}");
    }
    assert_eq!(redis.wire().ask("GET item:apple:def"), "$8\r\nstranger\r\n", "the upstream's namesake is untouched");
    assert_eq!(wire.ask("XGROUP a"), "$1\r\n1\r\n");
    // Where subcommands are named, the upstream itself refuses one that it does not have.
    assert!(wire.ask("XINFO NOSUCH item:apple:def").starts_with("-ERR unknown subcommand 'NOSUCH'"));
}

#[test]
fn what_must_be_followed_is_not_taken_under_another_name() {
    let (_redis, sidecar) =
        renaming(&[("SUBSCRIBE", "LISTEN"), ("MULTI", "BEGIN"), ("DEBUG", "PROBE"), ("CONFIG", "SETTING")]);
    let mut wire = sidecar.wire();
    for (request, original) in [("LISTEN a", "SUBSCRIBE"), ("BEGIN", "MULTI")] {
        let told = wire.ask(request);
        assert!(told.contains(&format!("is {original}, which the upstream has renamed")), "{request}: {told}");
    }
    let denied = wire.ask("PROBE SLEEP 0");
    assert!(denied.starts_with("-NOPERM hearthside: DEBUG is denied by security.deny"), "{denied}");
    assert!(wire.ask("SETTING GET maxmemory").contains("maxmemory"));
    assert_eq!(wire.ask("GET a"), "$-1\r\n");
}

#[test]
fn a_reply_that_is_skipped_stays_skipped_while_the_name_is_asked_for() {
    let (_redis, sidecar) = renaming(&[("SETNX", "CLAIM")]);
    let mut wire = sidecar.wire();
    wire.send(&["CLIENT REPLY SKIP", "CLAIM a 1", "GET a"].map(line).concat());
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "$1\r\n1\r\n");
}

/// A spoilt answer says nothing of the server: it is asked again.
#[test]
fn an_answer_that_was_spoilt_on_its_way_is_asked_for_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::of(Server::Redis82, &["--loadmodule", &odd_module(folder.path())]);
    let proxy = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let sidecar = builder.set("UPSTREAM__PING_INTERVAL", "100ms").expect(warnings::UPSTREAM_AWAY).start();
    let learned = || sidecar.log().matches("the command table is completed").count();
    until("it has learned", || learned() == 1);
    proxy.spoil(Spoil::Extra);
    proxy.cut();
    until("an answer is spoilt", || sidecar.log().contains("the upstream's answer to COMMAND cannot be read"));
    proxy.spoil(Spoil::Nothing);
    until("it has learned again", || learned() == 2);
}

/// Loaded while the sidecar runs, so that no table can have had its commands.
#[test]
fn a_module_that_is_loaded_later_travels_alone_and_leaves_owned_keys_alone() {
    let redis = Redis::of(Server::Redis82, &["--enable-module-command", "yes"]);
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("GRAPH.QUERY g RETURN(1)").starts_with("-ERR unknown command 'GRAPH.QUERY'"));
    let loaded = redis.wire().ask(&format!("MODULE LOAD {}", module()));
    assert_eq!(loaded, "+OK\r\n");
    let told = wire.ask("GRAPH.QUERY g RETURN(1)");
    assert!(told.starts_with("*3\r\n"), "{told}");
    assert_eq!(wire.ask("EXISTS g"), ":1\r\n");
    let told = wire.ask("GRAPH.QUERY item:apple:def RETURN(1)");
    assert!(told.contains("is not answered on the owned key 'item:apple:def'"), "{told}");
    assert_eq!(redis.wire().ask("EXISTS item:apple:def"), ":0\r\n");
    // For ten seconds its requests are pipelined on its own connection; the others share their lanes.
    wire.send(&["GRAPH.QUERY g RETURN(1)", "GRAPH.DELETE item:apple:def", "GET a"].map(line).concat());
    assert!(wire.frame().starts_with(b"*3\r\n"));
    assert!(String::from_utf8_lossy(&wire.frame()).contains("is not answered on the owned key"));
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "$-1\r\n");
}

/// A module is the only one to know where the keys of its command stand, and says in no flag that another one waits.
#[test]
fn keys_that_only_the_upstream_can_find_are_asked_for_with_each_request() {
    for server in SERVERS {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = Redis::of(server, &["--loadmodule", &odd_module(folder.path())]);
        let sidecar = Sidecar::builder().redis(&redis).start();
        let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
        for _ in 0..2 {
            assert_eq!(wire.ask("ODD.LAST item:apple:def b"), ":3\r\n", "{server:?}: that is no key");
            let told = wire.ask("odd.last a item:apple:def");
            assert!(told.contains("is not answered on the owned key 'item:apple:def'"), "{server:?}: {told}");
        }
        wire.send(&["MULTI", "ODD.LAST a b", "EXEC", "ODD.LAST"].map(line).concat());
        let told: Vec<String> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        assert_eq!(told, ["+OK\r\n", "+QUEUED\r\n", "*1\r\n:3\r\n", ":1\r\n"], "{server:?}");
        wire.send(&line("ODD.WAITS a"));
        until("it waits", || redis.wire().ask("INFO clients").contains("blocked_clients:1"));
        assert_eq!(other.ask("SET a 1"), "+OK\r\n", "{server:?}: nobody waits with it");
        assert_eq!(String::from_utf8_lossy(&wire.frame()), "$-1\r\n");
        assert!(other.ask("ODD.WAITS item:apple:def").contains("the owned key 'item:apple:def'"), "{server:?}");
    }
}

/// A server with the odd module behind a proxy, and a sidecar with one lane.
fn behind_a_proxy(folder: &Path) -> (Redis, Proxy, Builder) {
    let redis = Redis::with(&["--loadmodule", &odd_module(folder), "--rename-command", "GETDEL", "TAKE"]);
    let proxy = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    (redis, proxy, builder.set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1"))
}

/// The whole request goes along with the question: megabytes that nobody waits behind.
#[test]
fn a_long_request_is_asked_about_over_a_connection_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_redis, proxy, builder) = behind_a_proxy(folder.path());
    let sidecar = builder.start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("ODD.LAST a b"), ":3\r\n");
    assert_eq!(other.ask("GET a"), "$-1\r\n");
    for (key, told) in [("b", ":3\r\n"), ("item:apple:def", "-ERR hearthside: ODD.LAST is not answered")] {
        let question = proxy.trap("GETKEYS");
        wire.send(&line(&format!("ODD.LAST {} {key}", "x".repeat(1 << 20))));
        until("it is asked", || question.has_caught());
        assert_eq!(other.ask("GET a"), "$-1\r\n", "the question holds nobody up");
        question.release();
        let reply = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert!(reply.starts_with(told), "{reply}");
    }
}

#[test]
fn what_is_asked_about_over_a_reload_is_judged_by_what_the_reload_has_brought() {
    for (request, question) in [("TAKE late:1", "TAKE"), ("ODD.LAST late:1", "GETKEYS")] {
        for is_transaction in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let (redis, proxy, builder) = behind_a_proxy(folder.path());
            redis.wire().ask("SET late:1 stranger");
            let definitions = folder.path().join("definitions.json");
            fs::write(&definitions, "{\"1\": \"ours\"}").expect("written");
            let mapping =
                |name| format!("[[definitions]]\nkey = \"{name}:{{id}}\"\ntype = \"string\"\nfile = {definitions:?}\n");
            let sidecar = builder.config(&mapping("early")).start();
            let mut wire = sidecar.wire();
            if is_transaction {
                assert_eq!(wire.ask("MULTI"), "+OK\r\n");
            }
            let question = proxy.trap(question);
            wire.send(&line(request));
            until("it is asked", || question.has_caught());
            reload(&sidecar, &["early", "late"].map(mapping).concat());
            question.release();
            let told = String::from_utf8_lossy(&wire.frame()).into_owned();
            assert!(told.contains("is not answered on the owned key 'late:1'"), "{request}: {told}");
            assert_eq!(wire.ask("GET late:1"), if is_transaction { "+QUEUED\r\n" } else { "$4\r\nours\r\n" });
            assert_eq!(redis.wire().ask("GET late:1"), "$8\r\nstranger\r\n");
        }
    }
}

#[test]
fn what_may_not_stand_in_a_transaction_is_the_upstreams_to_say() {
    for (server, nested, executed) in [
        (Server::Installed, "-ERR MULTI calls can not be nested\r\n", "*0\r\n"),
        (Server::Valkey91, "-ERR Command 'multi' not allowed inside a transaction\r\n", "-EXECABORT"),
    ] {
        let redis = Redis::of(server, &[]);
        let sidecar = Sidecar::builder().redis(&redis).start();
        let name = if server == Server::Valkey91 { "valkey" } else { "redis" };
        until("it is known", || sidecar.wire().ask("HELLO").contains(name));
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask("MULTI"), nested);
        let told = wire.ask("EXEC");
        assert!(told.starts_with(executed), "{server:?}: {told}");
    }
}

#[test]
fn another_version_behind_the_same_address_brings_its_own_commands() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("XDELEX x IDS 1 1-1").starts_with("-ERR unknown command"));
    redis.kill();
    redis.become_another(Server::Redis82);
    redis.launch();
    until("the upstream is back", || sidecar.wire().ask("XDELEX x IDS 1 1-1").starts_with("*1\r\n"));
    assert!(sidecar.wire().ask("XDELEX item:apple:def IDS 1 1-1").contains("is not answered on the owned key"));
}

#[test]
fn without_the_right_to_ask_the_built_in_rows_hold_and_what_looks_like_an_owned_key_is_refused() {
    let redis = Redis::with(&["--rename-command", "GETDEL", "TAKE"]);
    redis.wire().ask("ACL SETUSER sidecar on >secret ~* &* +@all -command");
    let url = format!("redis://sidecar:secret@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).expect(&[warnings::NOT_PERMITTED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(wire.ask("TAKE a"), "$1\r\n1\r\n");
    let told = wire.ask("TAKE item:apple:def");
    assert!(told.contains("TAKE may touch the owned key 'item:apple:def'"), "{told}");
    until("it is in the log", || sidecar.log().contains("command=\"COMMAND\""));
}

#[test]
fn a_user_may_run_what_its_categories_name_and_no_key_that_is_not_its_own() {
    let redis = Redis::with(&["--rename-command", "GETDEL", "TAKE", "--rename-command", "STRLEN", "MEASURE"]);
    let config = r#"
        [auth]
        mode = "users"
        [[users]]
        name = "reader"
        nopass = true
        commands = ["@read", "@connection"]
        keys = ["mine:*"]
        [[users]]
        name = "all"
        nopass = true
        commands = ["@all"]
        keys = ["*"]
    "#;
    let sidecar = Sidecar::builder().redis(&redis).config(config).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("MEASURE mine:a").starts_with("-NOAUTH"));
    assert_eq!(wire.ask("AUTH reader x"), "+OK\r\n");
    // Nobody has asked for the name yet, and who may not run everything may not ask.
    assert!(wire.ask("MEASURE mine:a").starts_with("-NOPERM"));
    let mut other = sidecar.wire();
    assert_eq!(other.ask("AUTH all x"), "+OK\r\n");
    assert_eq!(other.ask("MEASURE mine:a"), ":0\r\n");
    assert_eq!(other.ask("TAKE mine:a"), "$-1\r\n");
    assert_eq!(wire.ask("MEASURE mine:a"), ":0\r\n");
    for request in ["MEASURE other", "TAKE mine:a"] {
        let told = wire.ask(request);
        assert!(told.starts_with("-NOPERM"), "{request}: {told}");
    }
}

#[test]
fn a_flood_of_names_that_nobody_has_is_refused_by_the_upstream_alone() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    for at in 0..300 {
        let told = wire.ask(&format!("NOSUCH{at} item:apple:def"));
        assert!(told.starts_with(&format!("-ERR unknown command 'NOSUCH{at}'")), "{told}");
    }
    for name in ["x".repeat(500), "caf\u{e9}".into()] {
        assert!(wire.ask(&format!("{name} a")).starts_with("-ERR unknown command"), "{name}");
    }
    assert!(wire.is_silent(Duration::from_millis(1)));
}
