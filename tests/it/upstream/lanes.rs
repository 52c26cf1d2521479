//! What shares a lane, and what does not: whoever may wait, or leaves something at a connection, holds up nobody else.

use std::time::Duration;

use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// With one lane for everybody.
fn one_lane(redis: &Redis) -> Builder {
    Sidecar::builder().redis(redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1")
}

fn lines(requests: &[&str]) -> Vec<u8> {
    requests.iter().flat_map(|request| line(request)).collect()
}

fn waits(direct: &mut Wire, clients: usize) {
    let expected = format!("blocked_clients:{clients}\r\n");
    until("as many wait upstream", || direct.ask("INFO clients").contains(&expected));
}

/// Replies to requests that were sent at once.
fn answers(mut wire: Wire, requests: &[&str]) -> Vec<String> {
    wire.send(&lines(requests));
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

#[test]
fn an_unknown_command_that_waits_holds_up_nobody_and_ends_with_its_client() {
    // A real command that waits, under a name that no table knows.
    let redis = Redis::with(&["--rename-command", "BLPOP", "XBLPOP"]);
    let sidecar = one_lane(&redis).start();
    let mut direct = redis.wire();
    let (mut waiting, mut others) = (sidecar.wire(), (0..8).map(|_| sidecar.wire()).collect::<Vec<_>>());
    // The first takes a connection of its own, the second goes over that.
    for round in 0..2 {
        waiting.send(&lines(&["SET before 1", "XBLPOP queue 0", "GET before"]));
        assert_eq!(waiting.frame(), b"+OK\r\n");
        waits(&mut direct, 1);
        for other in &mut others {
            assert_eq!(other.ask("GET before"), "$1\r\n1\r\n");
        }
        waits(&mut direct, 1);
        assert_eq!(others[0].ask("RPUSH queue job"), ":1\r\n");
        assert_eq!(waiting.frame(), b"*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n", "round {round}");
        assert_eq!(waiting.frame(), b"$1\r\n1\r\n");
    }
    for mut leaving in [waiting, sidecar.wire()] {
        leaving.send(&line("XBLPOP queue 0"));
        waits(&mut direct, 1);
        drop(leaving);
        waits(&mut direct, 0);
    }
    assert_eq!(others[0].ask("RPUSH queue kept"), ":1\r\n");
    assert_eq!(others[0].ask("LLEN queue"), ":1\r\n");
}

#[test]
fn an_unknown_command_is_answered_to_a_client_that_sends_nothing_more() {
    let redis = Redis::with(&["--rename-command", "GETDEL", "XGETDEL"]);
    let sidecar = one_lane(&redis).start();
    for requests in
        [&["NOSUCH"][..], &["SET a 1", "XGETDEL a"], &["XGETDEL a", "SET a 1", "XGETDEL a", "GET a", "NOSUCH"]]
    {
        let mut answers = Vec::new();
        for mut wire in [sidecar.wire(), redis.wire()] {
            wire.send(&lines(requests));
            wire.finish_sending();
            answers.push(String::from_utf8_lossy(&wire.rest()).into_owned());
        }
        assert_eq!(answers[0], answers[1], "{requests:?}");
    }
}

#[test]
fn unknown_commands_answer_as_at_the_upstream_itself() {
    let renamed = ["--rename-command", "GETDEL", "XGETDEL", "--rename-command", "BLPOP", "XBLPOP"];
    let (redis, twin) = (Redis::with(&renamed), Redis::with(&renamed));
    let sidecar = one_lane(&redis).start();
    let requests = [
        "SET a 1",
        "NOSUCH x y",
        "GET a",
        "XGETDEL a",
        "GET a",
        "XBLPOP nosuch 0.01",
        "CLIENT NOSUCH ON",
        "OBJECT NOSUCH a",
        "CLIENT",
        "COMMAND NOSUCH",
        "SET a 2",
        "MULTI",
        "XGETDEL a",
        "XBLPOP nosuch 0",
        "GET a",
        "EXEC",
        "SET a 3",
        "MULTI",
        "NOSUCH",
        "XGETDEL a",
        "EXEC",
        "WATCH a",
        "XGETDEL a",
        "MULTI",
        "GET a",
        "EXEC",
        "SELECT 3",
        "XGETDEL a",
        "SET a 4",
        "XGETDEL a",
        "XGETDEL",
        "RESET",
        "XGETDEL a",
        "CLIENT MAINT_NOTIFICATIONS ON",
        "client maint_notifications off",
    ];
    let (ours, theirs) = (answers(sidecar.wire(), &requests), answers(twin.wire(), &requests));
    for ((request, ours), theirs) in requests.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{request}");
    }
    // One by one, and in the other protocol.
    let (mut ours, mut theirs) = (sidecar.wire(), twin.wire());
    ours.ask("HELLO 3");
    theirs.ask("HELLO 3");
    for request in requests.iter().filter(|request| !request.starts_with("RESET")) {
        assert_eq!(ours.ask(request), theirs.ask(request), "{request}");
    }
}

/// No command can be learned, so that what it is remains unknown.
fn nobody_may_ask(redis: &Redis) {
    assert_eq!(redis.wire().ask("ACL SETUSER default -command"), "+OK\r\n");
}

#[test]
fn what_an_unknown_command_leaves_at_a_connection_is_its_clients_alone() {
    let redis = Redis::with(&["--rename-command", "SELECT", "XSELECT"]);
    nobody_may_ask(&redis);
    let sidecar = one_lane(&redis).expect(&[warnings::NOT_PERMITTED]).start();
    let (mut one, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(one.ask("XSELECT 3"), "+OK\r\n");
    assert_eq!(one.ask("SET a three"), "+OK\r\n");
    assert_eq!(one.ask("GET a"), "$5\r\nthree\r\n");
    assert_eq!(other.ask("SET a zero"), "+OK\r\n");
    assert_eq!(one.ask("BLPOP nosuch 0.01"), "*-1\r\n");
    assert_eq!(one.ask("GET a"), "$5\r\nthree\r\n");
    drop(one);
    until("its connection is closed", || !redis.wire().ask("CLIENT LIST").contains(" db=3 "));
    for request in ["BLPOP a 0.01", "GET a"] {
        let told = other.ask(request);
        assert!(told.starts_with("-WRONGTYPE") || told == "$4\r\nzero\r\n", "{request}: {told}");
    }
    // Inside MULTI it is the same.
    let mut third = sidecar.wire();
    third.send(&lines(&["MULTI", "XSELECT 3", "GET a", "EXEC", "GET a"]));
    let replies: Vec<_> = (0..5).map(|_| String::from_utf8_lossy(&third.frame()).into_owned()).collect();
    assert_eq!(replies[3..], ["*2\r\n+OK\r\n$5\r\nthree\r\n", "$5\r\nthree\r\n"]);
    assert_eq!(other.ask("GET a"), "$4\r\nzero\r\n");
    assert_eq!(sidecar.wire().ask("GET a"), "$4\r\nzero\r\n");
}

#[test]
fn an_unknown_command_that_the_upstream_does_not_know_costs_no_connection_for_long() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let mut clients: Vec<_> = (0..10).map(|_| sidecar.wire()).collect();
    for client in &mut clients {
        assert!(client.ask("NOSUCH").starts_with("-ERR unknown command"));
        assert!(client.ask("CLIENT NOSUCH").starts_with("-ERR unknown subcommand"));
    }
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 1.0, "each gave it back to the next");
}

#[test]
fn what_clients_ask_at_connect_needs_no_lane() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let (mut through, mut direct) = (sidecar.wire(), redis.wire());
    for request in ["CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", "CLIENT maint_notifications OFF"]
    {
        assert_eq!(through.ask(request), direct.ask(request));
    }
    // One asks for the upstream's health; that which learns its commands ends, and a lane would stay.
    until("there is no lane", || direct.ask("CLIENT LIST").matches("name=hearthside").count() <= 1);
}

/// A Redis that says early that it is busy.
fn easily_busy() -> Redis {
    Redis::with(&["--busy-reply-threshold", "20"])
}

const FOREVER: &[&str] = &["EVAL", "while true do end", "0"];

#[test]
fn a_script_is_killed_though_every_lane_waits_for_it() {
    let redis = easily_busy();
    let library = "#!lua name=l\nredis.register_function('forever', function() while true do end end)";
    assert_eq!(redis.wire().call(&["FUNCTION", "LOAD", library]), b"$1\r\nl\r\n");
    let sidecar = one_lane(&redis).start();
    for (run, kill) in [(FOREVER, "SCRIPT KILL"), (&["FCALL", "forever", "0"], "FUNCTION KILL")] {
        let (mut running, mut held, mut killer) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
        assert_eq!(held.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
        running.send(&crate::support::wire::array(run));
        until("the upstream is busy", || held.ask("GET a").starts_with("-BUSY"));
        if run != FOREVER {
            assert!(killer.ask("FUNCTION STATS").contains("forever"));
        }
        until("it is killed", || killer.ask(kill) == "+OK\r\n");
        let told = String::from_utf8_lossy(&running.frame()).into_owned();
        assert!(told.starts_with('-') && told.contains("killed"), "{told}");
        assert_eq!(killer.ask("GET a"), "$-1\r\n");
    }
}

#[test]
fn a_script_is_killed_after_the_lane_that_ran_it_was_given_up() {
    let redis = easily_busy();
    let builder = one_lane(&redis).set("UPSTREAM__COMMAND_TIMEOUT", "300ms").set("UPSTREAM__LANE_PATIENCE", "0s");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let (mut running, mut other) = (sidecar.wire(), sidecar.wire());
    running.send(&crate::support::wire::array(FOREVER));
    let told = String::from_utf8_lossy(&running.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    assert!(
        other.ask("SET a 1").starts_with("-BUSY"),
        "the upstream's own word, over a connection that it half greeted"
    );
    assert_eq!(other.ask("SCRIPT KILL"), "+OK\r\n");
    until("everything works again", || other.ask("SET a 1") == "+OK\r\n");
    until("the lane has its name again", || {
        assert_eq!(other.ask("GET a"), "$1\r\n1\r\n");
        redis.wire().ask("CLIENT LIST").contains("name=hearthside")
    });
}

#[test]
fn who_moves_is_told_that_the_upstream_is_busy_as_there() {
    let redis = easily_busy();
    let sidecar = one_lane(&redis).expect(warnings::UPSTREAM_AWAY).start();
    let [mut moving, mut running] = [(); 2].map(|()| sidecar.wire());
    let mut direct = redis.wire();
    assert_eq!(moving.ask("SET a 1"), "+OK\r\n");
    running.send(&crate::support::wire::array(FOREVER));
    until("the upstream is busy", || direct.ask("GET a").starts_with("-BUSY"));
    for request in ["SELECT 1", "SELECT 2", "CLIENT NO-EVICT ON", "BLPOP a 1"] {
        assert_eq!(moving.ask(request), direct.ask(request), "{request}");
    }
    until("it is killed", || moving.ask("SCRIPT KILL") == "+OK\r\n");
    until("it moves", || moving.ask("SELECT 1") == "+OK\r\n");
    assert_eq!(moving.ask("GET a"), "$-1\r\n");
}

#[test]
fn a_busy_upstream_can_be_shut_down() {
    let redis = easily_busy();
    let sidecar = one_lane(&redis).set("SECURITY__DENY", "").expect(warnings::UPSTREAM_AWAY).start();
    let (mut running, mut other) = (sidecar.wire(), sidecar.wire());
    running.send(&crate::support::wire::array(FOREVER));
    until("the upstream is busy", || other.ask("FUNCTION STATS").starts_with("-BUSY"));
    other.send(&line("SHUTDOWN NOSAVE"));
    assert_eq!(other.rest(), b"", "it sees the end of the connection, as at the upstream");
    until("it has ended", || Wire::try_tcp(redis.port, Duration::from_millis(100)).is_none());
}

#[test]
fn a_lane_that_does_not_move_on_gets_no_new_clients() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let (mut stuck, mut other, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    assert_eq!(other.ask("SET a 1"), "+OK\r\n");
    // Writes wait, each with its connection; reads do not.
    assert_eq!(direct.ask("CLIENT PAUSE 600000 WRITE"), "+OK\r\n");
    stuck.send(&line("SET a 2"));
    waits(&mut direct, 1);
    until("whoever comes now is answered", || {
        let newcomer = Wire::try_tcp(sidecar.port, Duration::from_millis(200));
        newcomer.and_then(|mut newcomer| newcomer.try_ask("GET a")).as_deref() == Some("$1\r\n1\r\n")
    });
    assert_eq!(other.ask("GET a"), "$1\r\n1\r\n", "who has nothing under way goes elsewhere");
    // What a client sent stays in order.
    stuck.send(&line("GET a"));
    assert!(stuck.is_silent(Duration::from_millis(50)));
    assert!(metric(&sidecar, "hearthside_lanes_connected") <= 4.0);
    assert_eq!(direct.ask("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!((stuck.frame(), stuck.frame()), (b"+OK\r\n".to_vec(), b"$1\r\n2\r\n".to_vec()));
    assert_eq!(other.ask("GET a"), "$1\r\n2\r\n");
}

#[test]
fn a_status_of_megabytes_passes_and_costs_nobody_a_lane() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    let mut others: Vec<_> = (0..8).map(|_| sidecar.wire()).collect();
    for script in ["return {ok=string.rep('x',5000000)}", "return {err=string.rep('x',3000000)}"] {
        let request = crate::support::wire::array(&["EVAL", script, "0"]);
        wire.send(&request.repeat(2));
        others.iter_mut().for_each(|other| other.send(&line("INCR n")));
        direct.send(&request);
        let expected = direct.frame();
        assert!(expected.len() > 3_000_000);
        assert!(wire.frame() == expected && wire.frame() == expected, "{script}");
        assert!(others.iter_mut().all(|other| other.frame().starts_with(b":")));
    }
    assert_eq!(direct.ask("GET n"), "$2\r\n16\r\n");
    assert_eq!(metric(&sidecar, "hearthside_lane_failures_total"), 0.0);
}

#[test]
fn after_a_long_reply_a_client_is_told_as_before_what_a_cut_has_cost() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    wire.call(&[&b"SET"[..], b"big", &vec![b'x'; 3 << 20]]);
    assert_eq!(wire.ask("SET q 1"), "+OK\r\n");
    assert!(wire.ask("GET big").len() > 3 << 20);
    assert_eq!(wire.ask("GET q"), "$1\r\n1\r\n");
    assert!(metric(&sidecar, "hearthside_pinned") >= 1.0, "it has a lane of its own");
    proxy.hold(true);
    wire.send(&lines(&["GET q", "INCR q", "STRLEN q"]));
    assert!(wire.is_silent(Duration::from_millis(50)));
    proxy.cut();
    proxy.hold(false);
    assert_eq!(wire.frame(), b"$1\r\n1\r\n", "reads are sent once more");
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    assert_eq!(wire.frame(), b":1\r\n");
    // A transaction is one unit there too.
    wire.send(&lines(&["MULTI", "INCR n", "GET q", "EXEC"]));
    let last = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).last();
    assert!(last.is_some_and(|told| told.starts_with("*2\r\n:1\r\n")));
}

#[test]
fn a_read_that_takes_too_long_is_not_sent_a_second_time() {
    let redis = Redis::start();
    let builder = one_lane(&redis).set("UPSTREAM__COMMAND_TIMEOUT", "300ms").set("UPSTREAM__CONNECT_TIMEOUT", "300ms");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    redis.pause(true);
    let told = wire.ask("STRLEN a");
    assert!(told.contains("upstream.command_timeout") && told.contains("not sent again"), "{told}");
    redis.pause(false);
    until("it is back", || wire.ask("GET a") == "$1\r\n1\r\n");
    let stats = redis.wire().ask("INFO commandstats");
    assert!(stats.contains("cmdstat_strlen:calls=1,"), "{stats}");
}

#[test]
fn an_element_that_has_arrived_reaches_a_client_that_closes_its_sending_side() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let mut direct = redis.wire();
    for round in 0..20 {
        let mut waiting = sidecar.wire();
        waiting.send(&line("BLPOP queue 0"));
        waits(&mut direct, 1);
        // Both are there when the sidecar looks.
        sidecar.signal("STOP");
        assert_eq!(direct.ask("RPUSH queue job"), ":1\r\n");
        waiting.finish_sending();
        sidecar.signal("CONT");
        let told = waiting.try_frame();
        assert_eq!(told.as_deref(), Some(&b"*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n"[..]), "round {round}");
    }
}

#[test]
fn a_client_that_is_held_and_leaves_takes_its_wait_with_it() {
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let mut direct = redis.wire();
    let mut waiting = sidecar.wire();
    waiting.ask("CLIENT NO-EVICT ON");
    waiting.send(&line("BLPOP queue 0"));
    waits(&mut direct, 1);
    drop(waiting);
    waits(&mut direct, 0);
    assert_eq!(direct.ask("RPUSH queue kept"), ":1\r\n");
    assert_eq!(direct.ask("LLEN queue"), ":1\r\n");
}

#[test]
fn who_has_asked_what_the_table_does_not_know_is_told_what_a_cut_has_cost() {
    let redis = Redis::with(&["--rename-command", "BLPOP", "XBLPOP"]);
    nobody_may_ask(&redis);
    let proxy = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).expect(&[warnings::NOT_PERMITTED]).start();
    let mut direct = redis.wire();
    let mut wire = sidecar.wire();
    direct.ask("RPUSH queue job");
    for round in 0..2 {
        assert_eq!(wire.ask("XBLPOP queue 0"), "*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
        until("it is lent a connection", || metric(&sidecar, "hearthside_pinned") >= 1.0);
        if round == 0 {
            // Requests that follow over its own connection.
            proxy.hold(true);
            wire.send(&lines(&["GET a", "INCR a"]));
            assert!(wire.is_silent(Duration::from_millis(50)));
            proxy.cut();
            proxy.hold(false);
        } else {
            // One more of its kind, and what stands behind it.
            wire.send(&lines(&["XBLPOP queue 0", "INCR a"]));
            waits(&mut direct, 1);
            proxy.cut();
        }
        for _ in 0..2 {
            let told = String::from_utf8_lossy(&wire.frame()).into_owned();
            assert!(told.starts_with("-ERR hearthside: ") && told.contains("may have been applied"), "{told}");
        }
        assert_eq!(wire.ask("ECHO on"), "$2\r\non\r\n", "and it goes on");
        until("over a lane", || wire.ask("SET b 1") == "+OK\r\n");
        direct.ask("RPUSH queue job");
    }
}

#[test]
fn a_client_that_walks_through_databases_leaves_few_lanes() {
    let redis = Redis::with(&["--databases", "300"]);
    for idle_time in ["10m", "100ms"] {
        let sidecar = one_lane(&redis).set("UPSTREAM__PINNED_IDLE_TIME", idle_time).start();
        let (mut stays, mut walks, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
        assert_eq!(stays.ask("SELECT 299"), "+OK\r\n");
        stays.ask("DEL steps");
        for db in 1..299 {
            walks.send(&lines(&[&format!("SELECT {db}"), "SET here mine"]));
            assert_eq!((walks.frame(), walks.frame()), (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec()));
            assert_eq!(stays.ask("INCR steps"), format!(":{db}\r\n"));
        }
        until("few are left", || metric(&sidecar, "hearthside_lanes_connected") <= 32.0);
        drop(walks);
        let connected = || direct.ask("INFO clients").contains("connected_clients:3\r\n");
        if idle_time == "100ms" {
            until("none is left but the health check's, and the lane of who stays", connected);
        }
        assert_eq!(stays.ask("GET steps"), "$3\r\n298\r\n");
    }
}
