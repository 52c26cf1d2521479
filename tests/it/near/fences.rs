//! A reply that something has passed on its way is not kept.

use super::{bulk, hits, keep, keeping, started, told, two};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::{Wire, line};

#[test]
fn a_reply_that_a_change_has_passed_is_not_kept() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = keeping(&format!("redis://127.0.0.1:{}", proxy.port)).start();
    told(&sidecar);
    // What the server says over one connection comes later than what it says after that over another.
    proxy.delay(6);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for round in 0..60 {
        let keys: Vec<String> = (0..10).map(|i| format!("cfg:{round}:{i}")).collect();
        keys.iter().for_each(|key| drop(direct.ask(&format!("SET {key} old"))));
        wire.send(&keys.iter().flat_map(|key| line(&format!("GET {key}"))).collect::<Vec<u8>>());
        std::thread::sleep(std::time::Duration::from_micros(500));
        keys.iter().for_each(|key| drop(direct.ask(&format!("SET {key} new"))));
        keys.iter().for_each(|_| assert!(["old", "new"].map(bulk).contains(&wire.text())));
        for key in &keys {
            until("the new value is read", || wire.ask(&format!("GET {key}")) == bulk("new"));
        }
    }
}

#[test]
fn a_reply_that_a_write_has_passed_is_not_kept() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = keeping(&format!("redis://127.0.0.1:{}", proxy.port)).start();
    told(&sidecar);
    let [mut reads, mut writes] = two(&sidecar);
    writes.ask("SET cfg:warm v");
    reads.ask("GET cfg:warm");
    proxy.delay(6);
    for round in 0..300 {
        reads.send(&line("GET cfg:a"));
        assert_eq!(writes.ask(&format!("SET cfg:a {round}")), "+OK\r\n");
        reads.frame();
        for wire in [&mut reads, &mut writes] {
            assert_eq!(wire.ask("GET cfg:a"), bulk(&round.to_string()), "round {round}");
        }
    }
}

/// The id of the connection on which the server tells what changes.
pub fn listener(direct: &mut Wire) -> String {
    let list = direct.ask("CLIENT LIST");
    let line =
        list.lines().find(|line| line.contains("cmd=ping") && line.contains("name=hearthside") && is_bcast(line));
    let line = line.unwrap_or_else(|| panic!("nobody listens: {list}"));
    line.split(' ').find_map(|word| word.strip_prefix("id=")).expect("an id").to_owned()
}

fn is_bcast(line: &str) -> bool {
    line.split(' ').find_map(|word| word.strip_prefix("flags=")).is_some_and(|flags| flags.contains('B'))
}

#[test]
fn nothing_is_kept_while_nobody_tells_what_changes() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    direct.ask("SET cfg:a v");
    direct.ask("ACL SETUSER default -client|tracking");
    let expected = [crate::support::warnings::NEAR_SILENT];
    let sidecar = keeping(&redis.url()).expect(&expected).start();
    let mut wire = sidecar.wire();
    until("it is told", || sidecar.log().contains("the upstream does not tell what changes"));
    (0..5).for_each(|_| assert_eq!(wire.ask("GET cfg:a"), bulk("v")));
    assert_eq!(hits(&sidecar), 0);
    direct.ask("ACL SETUSER default +client|tracking");
    told(&sidecar);
    assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk("v"));
    drop(started(&redis));
}
