//! MONITOR followed by anything: the same to a Redis directly and through the sidecar to its twin, among it what the
//! sidecar denies, which it must refuse whatever the connection is.

use super::begin;
use super::stream::Dice;
use crate::support::redis::{Redis, Server};
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;

const DENIED: [&str; 8] = [
    "SHUTDOWN NOSAVE",
    "SHUTDOWN",
    "DEBUG SLEEP 0",
    "DEBUG SET-ACTIVE-EXPIRE 1",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "MODULE LOAD x",
    "FAILOVER ABORT",
];

/// Left out: EXEC, whose elements Redis shows a monitor's own lines between, and MONITOR, which it does not answer
/// twice.
const ALIKE: [&str; 21] = [
    "PING",
    "PING x",
    "ECHO x",
    "GET k",
    "SET k v",
    "MGET k l",
    "DEL k",
    "HGETALL k",
    "BLPOP k 0",
    "XREADGROUP GROUP g streams BLOCK 0 STREAMS k >",
    "GEORADIUS k 1 1 10 km STORE a STORE b",
    "WATCH k",
    "UNWATCH",
    "MULTI",
    "DISCARD",
    "EVAL return 1 0",
    "SELECT 1",
    "NOSUCH x",
    "GET",
    "COMMAND COUNT",
    "CLIENT SETNAME me",
];

#[test]
fn a_monitor_is_answered_alike_and_refused_what_is_denied_on_the_installed_server() {
    a_monitor(Server::Installed);
}

#[test]
fn a_monitor_is_answered_alike_and_refused_what_is_denied_on_redis_8_2() {
    a_monitor(Server::Redis82);
}

#[test]
fn a_monitor_is_answered_alike_and_refused_what_is_denied_on_valkey_9_1() {
    a_monitor(Server::Valkey91);
}

fn a_monitor(server: Server) {
    let (mut dice, total) = begin("monitor", 4_000);
    let (redis, twin) = (Redis::of(server, &[]), Redis::of(server, &[]));
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut done = 0;
    while done < total {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        let hello = *dice.pick(&["HELLO 2", "HELLO 3"]);
        through.ask(hello);
        direct.ask(hello);
        assert_eq!(through.ask("MONITOR"), direct.ask("MONITOR"));
        for _ in 0..dice.roll(60) {
            step(&mut dice, &mut through, &mut direct);
            done += 1;
        }
    }
    assert_eq!(redis.wire().ask("PING"), "+PONG\r\n");
}

fn step(dice: &mut Dice, through: &mut Wire, direct: &mut Wire) {
    if dice.roll(3) == 0 {
        let command = dice.pick(&DENIED);
        let told = through.ask_monitoring(command);
        assert!(told.starts_with("-NOPERM hearthside: "), "{command}: {told}");
        return;
    }
    let command = dice.pick(&ALIKE);
    assert_eq!(through.ask_monitoring(command), direct.ask_monitoring(command), "{command}");
}
