//! Rules that a reload takes away reach what is under way: subscriptions, waits, transactions.

use hearthside::config::SHIPPED;

use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{Wire, line};

/// The password of each is its name.
const ANN: &str = "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1";
const BOB: &str = "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9";

/// Ann's rules, and perhaps Bob, who may do everything.
fn config(commands: &str, keys: &str, channels: &str, more: &str) -> String {
    format!(
        "[auth]\nmode = \"users\"\n[[users]]\nname = \"ann\"\npasswords = [\"{ANN}\"]\ncommands = [{commands}]\n\
         keys = [{keys}]\nchannels = [{channels}]\n{more}"
    )
}

fn bob() -> String {
    format!(
        "[[users]]\nname = \"bob\"\npasswords = [\"{BOB}\"]\ncommands = [\"@all\"]\nkeys = [\"*\"]\n\
         channels = [\"*\"]\n"
    )
}

fn first() -> String {
    config("\"@all\"", "\"lock:*\", \"free:*\"", "\"game:*\", \"chat:*\"", &bob())
}

fn started(redis: &Redis) -> Builder {
    Sidecar::builder().redis(redis).config(&first())
}

fn reload(sidecar: &Sidecar, text: &str) {
    let done = || metric(sidecar, "hearthside_config_reloads_total{outcome=\"ok\"}");
    let before = done();
    sidecar.configure(text);
    sidecar.signal("HUP");
    until("the configuration is in force", || done() > before);
}

fn login(sidecar: &Sidecar, name: &str) -> Wire {
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("AUTH {name} {name}")), "+OK\r\n");
    wire
}

#[test]
fn subscribers_that_may_not_listen_any_more_are_closed_and_no_others() {
    let redis = Redis::start();
    for mode in ["exact", "shared"] {
        let sidecar = started(&redis).set("PUBSUB__MODE", mode).start();
        let listening = |name: &str, hello: &str, command: &str| {
            let mut wire = login(&sidecar, name);
            wire.ask(hello);
            wire.ask(command);
            wire
        };
        let lost = [
            listening("ann", "HELLO 2", "SUBSCRIBE game:1"),
            listening("ann", "HELLO 3", "SUBSCRIBE game:2"),
            listening("ann", "HELLO 3", "PSUBSCRIBE game:*"),
            listening("ann", "HELLO 2", "SSUBSCRIBE game:1"),
        ];
        let kept = [
            listening("ann", "HELLO 2", "SUBSCRIBE chat:1"),
            listening("ann", "HELLO 3", "PSUBSCRIBE chat:*"),
            listening("bob", "HELLO 2", "SUBSCRIBE game:1"),
            listening("bob", "HELLO 3", "PSUBSCRIBE *"),
        ];
        reload(&sidecar, &config("\"@all\"", "\"lock:*\", \"free:*\"", "\"chat:*\"", &bob()));
        for mut wire in lost {
            assert!(wire.try_frame().is_none(), "{mode}: it is closed");
        }
        let mut publisher = redis.wire();
        publisher.ask("PUBLISH game:1 of-game");
        publisher.ask("PUBLISH chat:1 of-chat");
        for mut wire in kept {
            assert!(String::from_utf8_lossy(&wire.frame()).contains("of-"), "{mode}: it goes on");
        }
    }
}

#[test]
fn a_monitor_that_may_not_monitor_any_more_is_closed() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let [mut anns, mut bobs] = ["ann", "bob"].map(|name| {
        let mut wire = login(&sidecar, name);
        assert_eq!(wire.ask("MONITOR"), "+OK\r\n");
        wire
    });
    reload(&sidecar, &config("\"@all\", \"-monitor\"", "\"lock:*\", \"free:*\"", "\"chat:*\"", &bob()));
    until("it is closed", || anns.try_frame().is_none());
    redis.wire().ask("PING of-monitors");
    while !String::from_utf8_lossy(&bobs.frame()).contains("of-monitors") {}
    // The list of what nobody may do is looked at too.
    reload(&sidecar, &format!("{}[security]\ndeny = [\"MONITOR\"]\n", first()));
    until("it is closed", || bobs.try_frame().is_none());
}

#[test]
fn a_wait_that_may_not_go_on_ends_and_takes_nothing() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let mut direct = redis.wire();
    direct.ask("XGROUP CREATE lock:s g $ MKSTREAM");
    let waiting = [
        ("ann", "BLPOP lock:q 0", true),
        ("ann", "XREADGROUP GROUP g c BLOCK 0 STREAMS lock:s >", true),
        ("ann", "BRPOP free:q 0", false),
        ("bob", "BLPOP lock:other 0", false),
    ]
    .map(|(name, command, ends)| {
        let mut wire = login(&sidecar, name);
        wire.send(&[line(command), line("GET free:1")].concat());
        (wire, ends)
    });
    let mut tracking = login(&sidecar, "ann");
    tracking.ask("HELLO 3");
    assert_eq!(tracking.ask("CLIENT TRACKING ON"), "+OK\r\n");
    tracking.send(&line("BLPOP lock:q 0"));
    until("they wait", || direct.ask("INFO clients").contains("blocked_clients:5"));
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"*\"", &bob()));
    assert!(tracking.try_frame().is_none(), "one with a connection of its own is closed");
    until("three of five do not wait any more", || direct.ask("INFO clients").contains("blocked_clients:2"));
    for list in ["lock:q", "free:q", "lock:other"] {
        direct.ask(&format!("RPUSH {list} job"));
    }
    for (mut wire, ends) in waiting {
        let told = String::from_utf8_lossy(&wire.frame()).into_owned();
        let expected = if ends { "-NOPERM this user has no permissions to access one of the keys" } else { "*2\r\n" };
        assert!(told.starts_with(expected), "{told}");
        assert_eq!(wire.frame(), b"$-1\r\n", "and the client goes on");
    }
    assert_eq!(direct.ask("LLEN lock:q"), ":1\r\n", "nobody took it");
}

#[test]
fn whoever_is_gone_does_not_wait_any_more() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let mut direct = redis.wire();
    let mut wire = login(&sidecar, "bob");
    wire.send(&line("BLPOP lock:q 0"));
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    reload(&sidecar, &config("\"@all\"", "\"*\"", "\"*\"", ""));
    assert!(wire.try_frame().is_none(), "a user that is gone is closed");
    until("nobody waits", || direct.ask("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn a_wait_for_a_command_that_is_denied_now_ends() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config("").start();
    let mut direct = redis.wire();
    let mut wire = sidecar.wire();
    wire.send(&line("BLPOP q 0"));
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    // A reload that does not concern it leaves it alone.
    reload(&sidecar, "[security]\ndeny = [\"FLUSHALL\"]\n");
    assert!(direct.ask("INFO clients").contains("blocked_clients:1"));
    reload(&sidecar, "[security]\ndeny = [\"BLPOP\"]\n");
    assert!(String::from_utf8_lossy(&wire.frame()).starts_with("-NOPERM hearthside: BLPOP is denied by security.deny"));
    // So does one for a key that the store holds now.
    wire.send(&line("BRPOP player:1:inventory 0"));
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    reload(&sidecar, SHIPPED);
    assert!(String::from_utf8_lossy(&wire.frame()).contains("BRPOP is not answered on the owned key"));
}

#[test]
fn what_was_queued_by_other_rules_is_not_run() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let [mut anns, mut watching, mut bobs] = ["ann", "ann", "bob"].map(|name| login(&sidecar, name));
    for (wire, key) in [(&mut anns, "lock:a"), (&mut bobs, "lock:b")] {
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+QUEUED\r\n");
    }
    assert_eq!(watching.ask("WATCH free:1"), "+OK\r\n");
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"*\"", &bob()));
    assert!(anns.ask("EXEC").starts_with("-EXECABORT hearthside: the configuration was reloaded"));
    assert_eq!(bobs.ask("EXEC"), "*1\r\n+OK\r\n", "whose rules are what they were");
    assert_eq!(redis.wire().ask("EXISTS lock:a lock:b"), ":1\r\n");
    // What is queued now is judged by the rules of now.
    watching.ask("MULTI");
    assert_eq!(watching.ask("SET free:1 1"), "+QUEUED\r\n");
    assert_eq!(watching.ask("EXEC"), "*1\r\n+OK\r\n");
    // What nobody may do any more is a rule too.
    assert_eq!(bobs.ask("MULTI"), "+OK\r\n");
    assert_eq!(bobs.ask("SET lock:c 1"), "+QUEUED\r\n");
    reload(&sidecar, &format!("{}[security]\ndeny = [\"SET\"]\n", first()));
    assert!(bobs.ask("EXEC").starts_with("-EXECABORT hearthside: the configuration was reloaded"));
}

#[test]
fn a_wait_keeps_nobody_here_whose_rules_are_gone() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let mut direct = redis.wire();
    let waiting = |name: &str| {
        let mut wire = login(&sidecar, name);
        wire.ask("HELLO 3");
        assert!(wire.ask("SUBSCRIBE game:1").starts_with(">3\r\n"));
        // Nobody will ever give it anything.
        wire.send(&line("BLPOP free:q 0"));
        wire
    };
    let mut lost = [waiting("ann"), waiting("bob")];
    until("they wait", || direct.ask("INFO clients").contains("blocked_clients:2"));
    // Ann may wait as before, and not listen; Bob is gone.
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"chat:*\"", ""));
    direct.ask("PUBLISH game:1 of-game");
    for wire in &mut lost {
        assert_eq!(wire.try_frame().map(|frame| String::from_utf8_lossy(&frame).into_owned()), None);
    }
    until("nobody waits", || direct.ask("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn every_wait_of_a_client_is_looked_at_and_not_its_last_alone() {
    let redis = Redis::start();
    let sidecar = started(&redis).start();
    let mut direct = redis.wire();
    let mut held = login(&sidecar, "ann");
    assert_eq!(held.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
    held.send(&["BLPOP lock:q 0", "BLPOP free:q 0"].map(line).concat());
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"*\"", &bob()));
    direct.ask("RPUSH lock:q job");
    assert!(held.try_frame().is_none(), "it is closed");
    assert_eq!(direct.ask("LLEN lock:q"), ":1\r\n", "nobody took it");
}

#[test]
fn who_is_killed_while_its_wait_is_being_ended_is_closed() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).config(&first()).start();
    let (mut wire, mut killer, mut direct) = (login(&sidecar, "ann"), login(&sidecar, "bob"), redis.wire());
    assert_eq!(wire.ask("GET free:1"), "$-1\r\n", "its lane is connected");
    wire.send(&line("BLPOP lock:q 0"));
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    // Nobody answers whether the wait has been ended.
    proxy.hold(true);
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"*\"", &bob()));
    assert_eq!(killer.ask("CLIENT KILL USER ann"), ":1\r\n");
    assert!(wire.try_frame().is_none(), "it is closed");
    proxy.hold(false);
}

#[test]
fn an_element_on_its_way_is_not_lost_with_the_rules() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let mut direct = redis.wire();
    direct.ask("ACL SETUSER sidecar on >secret ~* &* +@all -client|unblock");
    let url = format!("redis://sidecar:secret@127.0.0.1:{}", proxy.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).config(&first()).start();
    let mut wire = login(&sidecar, "ann");
    assert_eq!(wire.ask("GET free:1"), "$-1\r\n", "its lane is connected");
    wire.send(&line("BLPOP lock:q 0"));
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    proxy.hold(true);
    assert_eq!(direct.ask("RPUSH lock:q job"), ":1\r\n");
    reload(&sidecar, &config("\"@all\"", "\"free:*\"", "\"*\"", &bob()));
    proxy.hold(false);
    assert_eq!(wire.frame(), b"*2\r\n$6\r\nlock:q\r\n$3\r\njob\r\n", "it was given before the rules were taken");
}
