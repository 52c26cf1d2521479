//! Another master takes the place of the one there was: in order, because it died, and because it hangs.

use std::time::{Duration, Instant};

use super::before;
use crate::faults::load::{Ask, Load, Seen};
use crate::operations::reload::reload;
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sentinels::{Group, Sentinel};
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, array, line};
use crate::support::{free_port, setting, until};

/// No reply went astray, and every error says what became of the command.
fn judge(seen: &[Seen]) {
    for seen in seen {
        assert!(seen.wrong.is_empty(), "wrong replies: {:#?}", seen.wrong);
        for error in seen.errors.keys() {
            let is_told = ["may have been applied", "was not sent", "READONLY", "was lost"];
            assert!(is_told.iter().any(|text| error.contains(text)), "client {} saw {error:?}", seen.id);
        }
    }
}

/// Waits until a write through the sidecar is at the master that the sentinels name.
fn is_served(group: &Group, wire: &mut Wire, key: &str) -> Duration {
    let begun = Instant::now();
    until("writes are taken", || wire.ask(&format!("SET {key} 1")) == "+OK\r\n");
    let taken = begun.elapsed();
    // Not all sentinels know it as soon as the one that ran the failover.
    until("it is where the sentinels say that the master is", || {
        let mut master = Wire::try_tcp(group.master(), Duration::from_secs(1));
        let told = master.as_mut().and_then(|master| master.try_ask(&format!("EXISTS {key}")));
        told.is_some_and(|told| told == ":1\r\n")
    });
    taken
}

#[test]
fn what_is_written_during_a_failover_in_order_is_not_lost() {
    let group = Group::start();
    let sidecar = before(&group).set("SERVER__WORKERS", "2").set("PUBSUB__MODE", "shared").start();
    let mut listening = sidecar.wire();
    listening.send(&line("SUBSCRIBE news __hearthside__:gap"));
    (0..2).for_each(|_| drop(listening.frame()));
    let mut own = sidecar.wire();
    for (request, reply) in [("SET a 1", "+OK"), ("MULTI", "+OK"), ("INCR a", "+QUEUED")] {
        assert_eq!(own.ask(request), format!("{reply}\r\n"));
    }
    let before = group.master();
    group.ask_to_fail_over();
    until("it is under way", || sidecar.log().contains("a failover is under way"));
    // The old master would take these writes for some hundred milliseconds, and then forget them.
    let load = Load::start(sidecar.port, 6, &[Ask::Through]);
    own.send(&line("EXEC"));
    until("there is another master", || group.master() != before);
    let told = String::from_utf8_lossy(&own.frame()).into_owned();
    assert!(told.starts_with('-'), "a transaction at the old master: {told}");
    load.go_on(20);
    let seen = load.stop();
    judge(&seen);
    let mut wire = sidecar.wire();
    for seen in &seen {
        let count = wire.ask(&format!("GET count:{}", seen.id));
        let count: u64 = count.lines().nth(1).map_or(0, |text| text.parse().expect("a number"));
        assert!(count >= seen.counted, "client {}: {} increments acknowledged, {count} kept", seen.id, seen.counted);
    }
    assert!(String::from_utf8_lossy(&listening.frame()).contains("__hearthside__:gap"));
    assert_eq!(wire.ask("PUBLISH news hello"), ":1\r\n");
    assert!(String::from_utf8_lossy(&listening.frame()).contains("hello"));
}

#[test]
fn who_waits_at_a_master_waits_on_at_the_next_one() {
    let group = Group::start();
    let sidecar = before(&group).start();
    let (mut waiting, mut reading, mut wire) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    assert!(wire.ask("XADD log 5-0 f 1").starts_with('$'));
    let (before, mut old) = (group.master(), Wire::tcp(group.master()));
    waiting.send(&line("BLPOP queue 60"));
    reading.send(&line("XREAD BLOCK 0 STREAMS log $"));
    // What was written at the old master may not be at the next one, whatever replicas that has.
    let mut counting = sidecar.wire();
    counting.send(&line("WAIT 9 0"));
    until("they wait", || old.ask("INFO clients").contains("blocked_clients:3"));
    group.fail_over();
    assert_ne!(group.master(), before);
    let mut new = Wire::tcp(group.master());
    until("they wait there", || new.ask("INFO clients").contains("blocked_clients:2"));
    assert!(old.ask("INFO clients").contains("blocked_clients:0"));
    assert!(String::from_utf8_lossy(&counting.frame()).contains("was lost while waiting"));
    assert_eq!(wire.ask("RPUSH queue x y"), ":2\r\n");
    assert_eq!(waiting.frame(), array(&["queue", "x"]));
    assert_eq!(waiting.ask("LLEN queue"), ":1\r\n");
    assert!(wire.ask("XADD log 6-0 f 2").starts_with('$'));
    assert!(String::from_utf8_lossy(&reading.frame()).contains("6-0"));
}

#[test]
fn a_master_that_dies_is_replaced_and_nobody_has_to_connect_again() {
    let mut group = Group::start();
    let sidecar = before(&group).start();
    let (mut waiting, mut listening, mut wire) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    listening.send(&line("SUBSCRIBE news __hearthside__:gap"));
    (0..2).for_each(|_| drop(listening.frame()));
    waiting.send(&line("BLPOP queue 0"));
    until("it waits", || group.servers[0].wire().ask("INFO clients").contains("blocked_clients:1"));
    group.master_server().kill();
    let told = String::from_utf8_lossy(&waiting.frame()).into_owned();
    assert!(told.contains("was lost while waiting"), "{told}");
    is_served(&group, &mut wire, "b");
    let endpoint = format!("{{endpoint=\"redis://127.0.0.1:{}\"}}", group.master());
    until("replies of the new master are timed", || {
        wire.ask("GET b");
        metric(&sidecar, &format!("hearthside_upstream_seconds_count{endpoint}")) > 0.0
    });
    let gap = String::from_utf8_lossy(&listening.frame()).into_owned();
    assert!(gap.contains("__hearthside__:gap"), "{gap}");
    assert_eq!(wire.ask("PUBLISH news hello"), ":1\r\n");
    assert!(String::from_utf8_lossy(&listening.frame()).contains("hello"));
    assert_eq!(waiting.ask("LPUSH queue x"), ":1\r\n");
    let seconds = format!("hearthside_upstream_seconds_count{{endpoint=\"redis://127.0.0.1:{}\"}}", group.master());
    until("the new master is measured", || {
        wire.ask("SET c 1");
        metric(&sidecar, &seconds) > 0.0
    });
    let lost = format!("hearthside_upstream_endpoint_lost_total{{endpoint=\"redis://127.0.0.1:{}\"}}", group.master());
    group.master_server().wire().ask("CLIENT KILL TYPE normal SKIPME yes");
    until("lanes to it are lost, and counted", || {
        wire.ask("SET d 1");
        metric(&sidecar, &lost) > 0.0
    });
}

#[test]
fn a_master_that_hangs_is_left_at_once() {
    let mut group = Group::start();
    // No deadline of a command or a connection helps.
    let sidecar = before(&group).set("UPSTREAM__COMMAND_TIMEOUT", "60s").start();
    let (mut wire, mut waiting) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(waiting.ask("MULTI"), "+OK\r\n");
    assert_eq!(waiting.ask("INCR a"), "+QUEUED\r\n");
    group.master_server().pause(true);
    wire.send(&line("INCR a"));
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    is_served(&group, &mut wire, "b");
    // It comes back, believes for a while that it is the master, and is not asked.
    group.servers[0].pause(false);
    is_served(&group, &mut wire, "c");
    let told = waiting.ask("EXEC");
    assert!(told.starts_with("-EXECABORT") || told.contains("was lost"), "{told}");
    assert_eq!(waiting.ask("INCR n"), ":1\r\n");
}

#[test]
fn a_sentinel_that_was_cut_off_does_not_bring_the_old_master_back() {
    let mut group = Group::start();
    let (port, old) = (free_port(), group.servers[0].port);
    let url = group.url().replace("sentinel://", &format!("sentinel://127.0.0.1:{port},"));
    let sidecar = before(&group).set("UPSTREAM__URL", url).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    group.master_server().kill();
    is_served(&group, &mut wire, "b");
    // It hears of the others from the servers that it knows, and the only one is dead.
    let _cut_off = Sentinel::at(port, old, 1, "");
    until("it answers", || metric(&sidecar, "hearthside_sentinels_answering") == 4.0);
    is_served(&group, &mut wire, "c");
    assert_eq!(metric(&sidecar, "hearthside_sentinel_masters_total"), 2.0);
}

#[test]
fn without_any_sentinel_the_last_master_stays() {
    let mut group = Group::start();
    let sidecar = before(&group).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    group.sentinels.iter_mut().for_each(Sentinel::kill);
    until("it is told", || sidecar.log().contains("no sentinel answers"));
    assert_eq!(wire.ask("SET a 2"), "+OK\r\n");
    group.sentinels.iter_mut().for_each(Sentinel::launch);
    until("they answer again", || metric(&sidecar, "hearthside_sentinels_answering") == 3.0);
    group.settled();
    group.fail_over();
    is_served(&group, &mut wire, "b");
}

/// The shipped configuration with this upstream.
fn config(url: &str) -> String {
    hearthside::config::SHIPPED.replace("[upstream]\nurl = \"\"", &format!("[upstream]\nurl = \"{url}\""))
}

#[test]
fn a_reload_leads_from_one_server_to_a_group_and_back() {
    let group = Group::start();
    let alone = Redis::start();
    let urls = [alone.url(), group.url(), alone.url()];
    let sidecar = Sidecar::builder().config(&config(&urls[0])).start();
    let (mut wire, mut waiting) = (sidecar.wire(), sidecar.wire());
    waiting.send(&line("BLPOP queue 60"));
    for (i, url) in urls.iter().enumerate() {
        reload(&sidecar, &config(url));
        let key = format!("key:{i}");
        let place = if url.contains("sentinel") { &group.servers[0] } else { &alone };
        until("it is written there", || {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            place.wire().ask(&format!("EXISTS {key}")) == ":1\r\n"
        });
        until("who waits does so there", || place.wire().ask("INFO clients").contains("blocked_clients:1"));
    }
    assert_eq!(wire.ask("RPUSH queue x"), ":1\r\n");
    assert_eq!(waiting.frame(), array(&["queue", "x"]));
}

#[test]
fn a_reload_to_a_group_ends_nothing_that_is_under_way_and_waits_for_the_first_answer() {
    let (group, alone) = (Group::start(), Redis::start());
    let silent = "redis+sentinel://127.0.0.1:1/game";
    let sidecar = Sidecar::builder().config(&config(&alone.url())).expect(&[warnings::SENTINEL_SILENT]).start();
    let (mut slow, mut wire) = (sidecar.wire(), sidecar.wire());
    let proof = "local t = redis.call('TIME')[1] + 2 while redis.call('TIME')[1] + 0 < t do end return 'done'";
    slow.send(&array(&["EVAL", proof, "0"]));
    reload(&sidecar, &config(silent));
    until("the sentinel is silent", || sidecar.log().contains("a sentinel does not answer"));
    reload(&sidecar, &config(&group.url()));
    until("the group is followed", || metric(&sidecar, "hearthside_sentinels_answering") == 3.0);
    assert_eq!(slow.frame(), b"$4\r\ndone\r\n");
    until("commands go to the group", || {
        assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
        group.servers[0].wire().ask("EXISTS a") == ":1\r\n"
    });
    reload(&sidecar, &config(silent));
    until("the silent one is asked", || metric(&sidecar, "hearthside_sentinels") == 1.0);
    assert_eq!(wire.ask("SET a 2"), "+OK\r\n", "the last upstream takes commands until a sentinel names another one");
}

/// With `HEARTHSIDE_FAILOVERS=20` there are more of them, and each must be over in a second; otherwise the machine may be
/// slow.
#[test]
fn failovers_under_load_leave_no_wrong_reply() {
    let failovers = setting("HEARTHSIDE_FAILOVERS", 1);
    let mut group = Group::with(3, &[]);
    let sidecar = before(&group).set("SERVER__WORKERS", "2").start();
    let load = Load::start(sidecar.port, 20, &[Ask::Through, Ask::Through, Ask::Owned]);
    let mut listening = sidecar.wire();
    listening.send(&line("SUBSCRIBE news"));
    drop(listening.frame());
    let mut slowest = Duration::ZERO;
    for i in 0..failovers {
        load.go_on(20);
        let before = group.master();
        match i % 2 {
            0 => group.master_server().kill(),
            _ => group.master_server().pause(true),
        }
        until("there is another master", || group.master() != before);
        let mut wire = sidecar.wire();
        slowest = slowest.max(is_served(&group, &mut wire, &format!("after:{i}")));
        load.go_on(5);
        until("subscriptions are restored", || wire.ask("PUBLISH news hello") == ":1\r\n");
        assert!(String::from_utf8_lossy(&listening.frame()).contains("hello"));
        let old = group.servers.iter_mut().find(|server| server.port == before).expect("one of them");
        match i % 2 {
            0 => old.launch(),
            _ => old.pause(false),
        }
        if i + 1 < failovers {
            group.settled();
        }
    }
    judge(&load.stop());
    eprintln!("{failovers} failovers, writes taken {slowest:?} after the switch at the latest");
    let is_long = std::env::var("HEARTHSIDE_FAILOVERS").is_ok();
    assert!(!is_long || slowest < Duration::from_secs(1), "{slowest:?}");
}
