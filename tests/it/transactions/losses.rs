//! A transaction whose connection, or whose client, is lost while its commands are on their way.

use std::time::Duration;

use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn behind(redis: &Redis, builder: Builder) -> (Proxy, Sidecar) {
    let proxy = Proxy::to(redis.port);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let sidecar = builder.set("UPSTREAM__URL", url).set("SERVER__WORKERS", "1").start();
    (proxy, sidecar)
}

fn send_all(wire: &mut Wire, requests: &[&str]) {
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
}

fn replies(wire: &mut Wire, count: usize) -> Vec<String> {
    (0..count).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

const LOST: &str = "-ERR hearthside: the upstream connection of this transaction was lost\r\n";

#[test]
fn every_command_of_a_transaction_that_is_cut_has_its_answer() {
    let redis = Redis::start();
    let (proxy, sidecar) = behind(&redis, Sidecar::builder().expect(warnings::UPSTREAM_AWAY));
    let mut wire = sidecar.wire();
    let all = ["WATCH k", "MULTI", "SET a 1", "HGET item:apple:def name", "SET a 2", "EXEC", "PING"];
    proxy.hold(true);
    let mut warm = sidecar.wire();
    send_all(&mut warm, &["GET warm"]);
    proxy.hold(false);
    replies(&mut warm, 1);
    assert_eq!(wire.ask("WATCH k"), "+OK\r\n");
    proxy.hold(true);
    send_all(&mut wire, &all);
    until("they are on their way", || metric(&sidecar, "hearthside_client_buffer_bytes") >= 0.0);
    assert!(wire.is_silent(Duration::from_millis(50)));
    proxy.cut();
    proxy.hold(false);
    let told = replies(&mut wire, all.len());
    assert_eq!([&told[0], &told[2], &told[4]], [LOST; 3]);
    assert_eq!([&told[1], &told[3]], ["+OK\r\n", "+QUEUED\r\n"]);
    assert!(told[5].contains("of this transaction was lost; "), "{told:?}");
    assert_eq!(told[6], "+PONG\r\n");
    until("the next one runs", || {
        send_all(&mut wire, &["MULTI", "SET a 3", "EXEC"]);
        replies(&mut wire, 3)[2] == "*1\r\n+OK\r\n"
    });
    assert_eq!(wire.ask("GET a"), "$1\r\n3\r\n");
}

#[test]
fn a_transaction_that_was_lost_before_exec_was_sent_was_not_done() {
    let redis = Redis::start();
    let (proxy, sidecar) = behind(&redis, Sidecar::builder().expect(warnings::UPSTREAM_AWAY));
    let mut wire = sidecar.wire();
    send_all(&mut wire, &["WATCH k", "MULTI", "SET a 1"]);
    assert_eq!(replies(&mut wire, 3)[2], "+QUEUED\r\n");
    proxy.cut();
    until("the loss is known", || wire.ask("SET a 2") == LOST);
    assert_eq!(
        wire.ask("EXEC"),
        "-EXECABORT hearthside: the upstream connection of this transaction was lost; nothing of it was done\r\n"
    );
    assert_eq!(wire.ask("DISCARD"), "-ERR DISCARD without MULTI\r\n");
}

#[test]
fn a_watch_that_was_lost_watches_nothing_and_one_that_was_answered_is_remembered() {
    let redis = Redis::start();
    let (proxy, sidecar) = behind(&redis, Sidecar::builder().expect(warnings::UPSTREAM_AWAY));
    let mut wire = sidecar.wire();
    for lost in [&["WATCH k"][..], &["WATCH k", "WATCH l"]] {
        // A connection of its own, over which nothing has been answered.
        until("there is one", || wire.ask("WATCH a") == "+OK\r\n");
        assert_eq!(wire.ask("UNWATCH"), "+OK\r\n");
        proxy.hold(true);
        send_all(&mut wire, lost);
        assert!(wire.is_silent(Duration::from_millis(50)));
        proxy.cut();
        proxy.hold(false);
        assert_eq!(replies(&mut wire, lost.len()), vec![LOST; lost.len()]);
        until("the upstream is back", || wire.ask("WATCH b") == "+OK\r\n");
        send_all(&mut wire, &["MULTI", "SET a 1", "EXEC"]);
        assert_eq!(replies(&mut wire, 3)[2], "*1\r\n+OK\r\n");
    }
    // What was watched is not forgotten, however much else is asked for.
    assert_eq!(wire.ask("WATCH b"), "+OK\r\n");
    proxy.cut();
    until("the loss is known", || wire.ask("WATCH c") == LOST);
    assert_eq!([wire.ask("WATCH c"), wire.ask("MULTI")], [LOST, "+OK\r\n"]);
    assert_eq!(wire.ask("SET a 2"), LOST);
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    // So where nobody sees the answer.
    until("the upstream is back", || wire.ask("GET a") == "$1\r\n1\r\n");
    wire.send(&line("CLIENT REPLY SKIP"));
    wire.send(&line("WATCH b"));
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(redis.wire().ask("SET b 2"), "+OK\r\n");
    assert_eq!([wire.ask("MULTI"), wire.ask("SET a 3"), wire.ask("EXEC")], ["+OK\r\n", "+QUEUED\r\n", "*-1\r\n"]);
}

#[test]
fn a_silent_upstream_is_given_up_after_command_timeout() {
    let redis = Redis::start();
    let builder = Sidecar::builder().set("UPSTREAM__COMMAND_TIMEOUT", "300ms");
    let (proxy, sidecar) = behind(&redis, builder.expect(warnings::UPSTREAM_AWAY));
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("WATCH k"), "+OK\r\n");
    proxy.hold(true);
    send_all(&mut wire, &["MULTI", "SET a 1", "EXEC"]);
    let told = replies(&mut wire, 3);
    assert_eq!(told[1], LOST);
    assert!(told[2].ends_with("the transaction may have been applied\r\n"), "{told:?}");
    proxy.hold(false);
}

#[test]
fn without_a_connection_the_first_command_waits_and_the_others_do_not() {
    let redis = Redis::start();
    let builder = Sidecar::builder().set("UPSTREAM__PINNED_MAX", "1").set("UPSTREAM__PINNED_TIMEOUT", "100ms");
    let (_proxy, sidecar) = behind(&redis, builder);
    let (mut holder, mut wire) = (sidecar.wire(), sidecar.wire());
    assert_eq!(holder.ask("WATCH k"), "+OK\r\n");
    let commands = [vec!["MULTI"], vec!["SET a 1"; 100], vec!["HGET item:apple:def name", "SELECT 3", "EXEC"]].concat();
    // Not a slice, because of the SELECT.
    send_all(&mut wire, &commands);
    let told = replies(&mut wire, commands.len());
    assert!(told[1..101].iter().all(|reply| reply.contains("pinned connections are in use")), "{told:?}");
    assert_eq!(told[101], "+QUEUED\r\n");
    assert_eq!(told[103], "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(metric(&sidecar, "hearthside_pinned_refused_total"), 1.0, "one wait for all of them");
    // The next transaction asks again.
    drop(holder);
    until("there is one", || {
        send_all(&mut wire, &["WATCH k", "MULTI", "SET a 1", "EXEC"]);
        replies(&mut wire, 4)[3] == "*1\r\n+OK\r\n"
    });
}

#[test]
fn client_kill_reaches_a_transaction_whatever_it_waits_for() {
    let redis = Redis::start();
    let builder = Sidecar::builder().set("UPSTREAM__PINNED_MAX", "1").set("UPSTREAM__PINNED_TIMEOUT", "1h");
    let (proxy, sidecar) =
        behind(&redis, builder.set("UPSTREAM__COMMAND_TIMEOUT", "0s").expect(warnings::UPSTREAM_AWAY));
    let id = |wire: &mut Wire| wire.ask("CLIENT ID").trim_matches([':', '\r', '\n']).to_owned();
    let [mut holder, mut waiting, mut admin] = [(); 3].map(|()| sidecar.wire());
    assert_eq!(holder.ask("WATCH k"), "+OK\r\n");
    // One waits for a connection.
    let its_id = id(&mut waiting);
    send_all(&mut waiting, &["MULTI", "SET a 1", "HGET item:apple:def name", "EXEC"]);
    until("it waits", || metric(&sidecar, "hearthside_pinned_waiting") == 1.0);
    assert_eq!(admin.ask(&format!("CLIENT KILL ID {its_id}")), ":1\r\n");
    waiting.rest();
    until("it does not wait any more", || metric(&sidecar, "hearthside_pinned_waiting") == 0.0);
    // The other for EXEC's reply, of which some is ours.
    let its_id = id(&mut holder);
    proxy.hold(true);
    send_all(&mut holder, &["MULTI", "SET a 1", "HGET item:apple:def name", "EXEC"]);
    assert!(holder.frame() == b"+OK\r\n");
    assert_eq!(admin.ask(&format!("CLIENT KILL ID {its_id}")), ":1\r\n");
    holder.rest();
    until("its connection is closed", || metric(&sidecar, "hearthside_pinned") == 0.0);
    proxy.hold(false);
}

#[test]
fn a_client_that_has_closed_its_sending_side_is_still_answered() {
    let redis = Redis::start();
    let (_proxy, sidecar) = behind(&redis, Sidecar::builder());
    let mut wire = sidecar.wire();
    send_all(&mut wire, &["WATCH k", "MULTI", "SET a 1", "HGET item:apple:def name", "EXEC"]);
    wire.finish_sending();
    let told = String::from_utf8_lossy(&wire.rest()).into_owned();
    assert!(told.ends_with("+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$5\r\nApple\r\n"), "{told}");
}
