//! What others see of the sidecar at the upstream: a monitor nothing of its greetings and questions, and whoever looks
//! at CLIENT LIST or SLOWLOG the names of its clients, where they have a connection of their own.

use crate::support::admin::metric;
use crate::support::redis::{Redis, SERVERS, Server};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// The commands of a monitor's lines up to one that holds `last`.
fn commands(monitor: &mut Wire, last: &str) -> Vec<String> {
    let mut commands = Vec::new();
    loop {
        let shown = String::from_utf8_lossy(&monitor.frame()).into_owned();
        let command = shown.split_once("] ").map(|(_, command)| command.trim_end().to_owned()).expect("a line");
        if command.contains(last) {
            return commands;
        }
        commands.push(command);
    }
}

/// Clients of both protocols, in several databases, that need connections of their own.
fn work(connect: impl Fn() -> Wire) {
    for db in 0..4 {
        for hello in ["2", "3"] {
            let mut wire = connect();
            wire.ask(&format!("HELLO {hello}"));
            wire.ask(&format!("SELECT {db}"));
            wire.ask("CLIENT SETNAME worker");
            wire.send(&line("GET a").repeat(3));
            (0..3).for_each(|_| drop(wire.frame()));
            wire.ask("BLPOP a 0.01");
            wire.ask("PING");
            wire.ask("SUBSCRIBE c");
            wire.ask("UNSUBSCRIBE c");
        }
    }
}

#[test]
fn a_monitor_is_shown_what_clients_say_and_nothing_of_the_sidecars_own() {
    for server in SERVERS {
        let (redis, twin) = (Redis::of(server, &["--requirepass", "pw"]), Redis::of(server, &[]));
        let url = format!("redis://:pw@127.0.0.1:{}/2", redis.port);
        let builder = Sidecar::builder().set("UPSTREAM__URL", url).set("UPSTREAM__PINNED_IDLE", "0");
        let builder = builder.set("UPSTREAM__PING_INTERVAL", "20ms").set("PUBSUB__MODE", "exact");
        let sidecar = builder.start();
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        for wire in [&mut through, &mut direct] {
            wire.ask("SELECT 0");
            assert_eq!(wire.ask("MONITOR"), "+OK\r\n");
        }
        work(|| sidecar.wire());
        work(|| twin.wire());
        // Silent lanes and the health of the upstream are asked about meanwhile.
        let mut admin = redis.wire();
        admin.ask("AUTH pw");
        let pings = |admin: &mut Wire| {
            let told = admin.ask("INFO commandstats");
            let calls = told.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls=")).map(str::to_owned);
            calls.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let before = pings(&mut admin);
        until("there were many", || pings(&mut admin) > before + 10);
        sidecar.wire().ask("GET the-last");
        twin.wire().ask("GET the-last");
        // What the sidecar answers itself it shows itself, perhaps before what comes from the upstream; what this test
        // has asked is no client's.
        let is_passed = |command: &String| {
            !["AUTH", "HELLO", "SELECT", "CLIENT", "PING", "INFO"]
                .iter()
                .any(|own| command.starts_with(&format!("\"{own}\"")))
        };
        let (ours, theirs) = (commands(&mut through, "the-last"), commands(&mut direct, "the-last"));
        let mut asked: Vec<_> = ours.iter().filter(|command| !is_passed(command)).collect();
        let answered: Vec<_> = theirs.iter().filter(|command| !is_passed(command)).collect();
        assert!(answered.len() == 8 * 4, "{server:?}: {answered:?}");
        for command in answered {
            let at = asked.iter().position(|asked| *asked == command);
            asked.remove(at.unwrap_or_else(|| panic!("{server:?}: {command} of {asked:?}")));
        }
        let is_of_the_test =
            |command: &str| ["\"AUTH\"", "\"INFO\" \"commandstats\""].iter().any(|b| command.starts_with(b));
        assert!(asked.iter().all(|command| is_of_the_test(command)), "{server:?}: {asked:?}");
        let [ours, theirs] = [ours, theirs].map(|all| all.into_iter().filter(is_passed).collect::<Vec<_>>());
        assert_eq!(ours, theirs, "{server:?}");
    }
}

#[test]
fn a_connection_of_a_clients_own_has_its_name() {
    for server in SERVERS {
        let redis = Redis::of(server, &["--slowlog-log-slower-than", "0"]);
        let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").start();
        let mut direct = redis.wire();
        let named = |direct: &mut Wire, command: &str| {
            let list = direct.ask("CLIENT LIST");
            let found = list.lines().find(|line| line.contains(&format!(" cmd={command} "))).map(str::to_owned);
            found.and_then(|line| Some(line.split(" name=").nth(1)?.split(' ').next()?.to_owned()))
        };
        let (mut one, mut other) = (sidecar.wire(), sidecar.wire());
        one.ask("CLIENT SETNAME worker-1");
        // The second takes over the connection of the first.
        for (wire, name) in [(&mut one, "worker-1"), (&mut other, "hearthside")] {
            wire.send(&line("BLPOP q 0"));
            until("it waits under its name", || named(&mut direct, "blpop").as_deref() == Some(name));
            assert_eq!(direct.ask("RPUSH q x"), ":1\r\n");
            wire.frame();
            let slow = direct.ask("SLOWLOG GET 8");
            let entry = slow.split("$5\r\nBLPOP\r\n").nth(1).expect("it is in the log");
            assert!(entry.split("*6\r\n").next().is_some_and(|entry| entry.contains(name)), "{server:?}: {slow}");
            direct.ask("SLOWLOG RESET");
        }
        // A name that comes, or goes, while the client has the connection.
        one.ask("HELLO 3");
        one.ask("CLIENT NO-EVICT ON");
        for (name, seen) in [("late", "late"), ("HELLO", "hello"), ("", "hearthside")] {
            match name {
                "HELLO" => drop(one.ask("HELLO 3 SETNAME hello")),
                _ => drop(one.call(&["CLIENT", "SETNAME", name])),
            }
            one.ask("ZCARD a");
            assert_eq!(named(&mut direct, "zcard").as_deref(), Some(seen), "{server:?}");
        }
    }
}

#[test]
fn a_connection_is_greeted_in_few_words() {
    let redis = Redis::start();
    redis.wire().ask("ACL SETUSER sidecar on >pw ~* &* +@all -client -info -command");
    let url = format!("redis://sidecar:pw@127.0.0.1:{}/3", redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", url).set("UPSTREAM__PINNED_IDLE", "0");
    let sidecar = builder.expect(&[crate::support::warnings::NOT_PERMITTED]).start();
    let mut direct = redis.wire();
    let list = |direct: &mut Wire| direct.ask("CLIENT LIST");
    let is_told = || metric(&sidecar, "hearthside_upstream_unasked{command=\"COMMAND\"}") == 1.0;
    until("what it asks at its start is over", || {
        is_told() && list(&mut direct).matches("name=hearthside").count() == 1
    });
    direct.ask("CONFIG RESETSTAT");
    let mut wire = sidecar.wire();
    for _ in 0..10 {
        assert_eq!(wire.ask("BLPOP a 0.01"), "*-1\r\n");
    }
    let told = direct.ask("INFO commandstats");
    let calls = |name: &str| {
        let calls =
            told.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls="))?.split(',').next());
        calls.and_then(|calls| calls.parse::<u64>().ok()).unwrap_or_default()
    };
    assert_eq!((calls("hello"), calls("select"), calls("blpop")), (10, 10, 10), "{told}");
    assert!(calls("ping") <= 12, "{told}");
    for silent in ["auth", "client|setname", "client|id", "client|setinfo", "info", "command"] {
        assert_eq!(calls(silent), 0, "{silent}: {told}");
    }
    assert!(list(&mut direct).contains("name=hearthside"), "HELLO may name a connection though CLIENT may not");
}

#[test]
fn a_server_without_hello_is_greeted_in_its_own_words() {
    let redis = Redis::of(Server::Installed, &["--rename-command", "HELLO", "", "--requirepass", "pw"]);
    let url = format!("redis://:pw@127.0.0.1:{}/3", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).start();
    let (mut wire, mut ear, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    direct.ask("AUTH pw");
    direct.ask("SELECT 3");
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(direct.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(wire.ask("BLPOP nosuch 0.01"), "*-1\r\n");
    assert!(direct.ask("CLIENT LIST").contains("name=hearthside"));
    // The ids of connections are known, too.
    let to = ear.ask("CLIENT ID");
    ear.ask("SUBSCRIBE __redis__:invalidate");
    assert_eq!(wire.ask(&format!("CLIENT TRACKING ON REDIRECT {}", to[1..].trim_end())), "+OK\r\n");
    wire.ask("GET a");
    direct.ask("SET a 2");
    assert!(String::from_utf8_lossy(&ear.frame()).ends_with("$1\r\na\r\n"));
    assert!(wire.ask("HELLO 3").starts_with('-'), "there is no RESP3");
}
