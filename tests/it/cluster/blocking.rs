//! Blocking commands behind a cluster: each waits at the owner of its keys, wherever that is meanwhile.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::{order, slot_of};
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// Waits until so many clients wait at a node.
fn waits_at(port: u16, clients: usize) {
    let told = format!("blocked_clients:{clients}");
    until("it waits there", || Wire::tcp(port).ask("INFO clients").contains(&told));
}

fn reply(wire: &mut Wire) -> String {
    String::from_utf8_lossy(&wire.frame()).into_owned()
}

#[test]
fn a_client_waits_at_the_owner_of_its_key_and_goes_with_the_slot() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = before(&cluster).start();
        let (mut waiting, mut wire) = (sidecar.wire(), sidecar.wire());
        let masters = cluster.masters();
        let keys = cluster.key_of_each();
        let id = waiting.ask("CLIENT ID").trim().trim_start_matches(':').to_owned();
        let pop = |key: &str| {
            [format!("BLPOP {key} 0"), format!("BLMOVE {key} {{{key}}}2 LEFT LEFT 30"), format!("BZPOPMIN {key} 30")]
        };
        for (i, key) in keys.iter().enumerate() {
            let (here, there) = (masters[i], masters[(i + 1) % masters.len()]);
            let adds = [format!("RPUSH {key} x"), format!("RPUSH {key} x"), format!("ZADD {key} 1 x")];
            for (wait, add) in pop(key).iter().zip(&adds) {
                waiting.send(&line(wait));
                waits_at(here, 1);
                assert_eq!(wire.ask(&format!("CLIENT UNBLOCK {id}")), ":1\r\n");
                assert!(["*-1\r\n", "$-1\r\n"].contains(&reply(&mut waiting).as_str()));
                waiting.send(&line(wait));
                waits_at(here, 1);
                cluster.move_slot(slot_of(key), there);
                waits_at(there, 1);
                until("it is seen waiting", || wire.ask("CLIENT LIST").contains("flags=b"));
                assert_eq!(wire.ask(&format!("CLIENT UNBLOCK {id} ERROR")), ":1\r\n");
                assert!(reply(&mut waiting).starts_with("-UNBLOCKED"));
                waiting.send(&line(wait));
                waits_at(there, 1);
                cluster.move_slot(slot_of(key), here);
                waits_at(here, 1);
                assert_eq!(wire.ask(add), ":1\r\n");
                assert!(reply(&mut waiting).contains("x\r\n"), "{wait}");
                wire.ask(&format!("UNLINK {{{key}}}2"));
            }
        }
        waiting.send(&line(&format!("XREAD BLOCK 0 STREAMS {} 0", keys[0])));
        waits_at(masters[0], 1);
        cluster.move_slot(slot_of(&keys[0]), masters[1]);
        waits_at(masters[1], 1);
        wire.ask(&format!("XADD {} * a 1", keys[0]));
        assert!(reply(&mut waiting).contains("$1\r\na\r\n"));
    }
}

#[test]
fn what_is_left_of_a_timeout_is_waited_at_the_new_owner() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut waiting = sidecar.wire();
    let key = cluster.key_of(cluster.masters()[0]);
    let begun = std::time::Instant::now();
    waiting.send(&line(&format!("BLPOP {key} 3")));
    waits_at(cluster.masters()[0], 1);
    cluster.move_slot(slot_of(&key), cluster.masters()[1]);
    waits_at(cluster.masters()[1], 1);
    assert_eq!(reply(&mut waiting), "*-1\r\n");
    let waited = begun.elapsed().as_millis();
    assert!(waited >= 2900, "it waited {waited} ms");
}

#[test]
fn a_client_that_waits_at_a_master_goes_on_at_its_successor() {
    let mut cluster = Cluster::start();
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "20s").start();
    let (mut waiting, mut reading, mut wire) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    let master = cluster.masters()[0];
    let key = cluster.key_of(master);
    waiting.send(&line(&format!("BLPOP {key} 0")));
    waits_at(master, 1);
    let next = cluster.fail_over(master);
    waits_at(next, 1);
    assert_eq!(wire.ask(&format!("RPUSH {key} x")), ":1\r\n");
    assert!(reply(&mut waiting).ends_with("$1\r\nx\r\n"));
    cluster.healthy();
    // One that takes something may have taken it; one that reads can read again.
    waiting.send(&line(&format!("BLPOP {key} 0")));
    reading.send(&line(&format!("XREAD BLOCK 0 STREAMS {{{key}}}s 0")));
    waits_at(next, 2);
    cluster.kill(next);
    assert!(reply(&mut waiting).contains("was lost while waiting"));
    let last = cluster.replaced(&key);
    waits_at(last, 1);
    until("it is written", || !wire.ask(&format!("XADD {{{key}}}s * a 1")).starts_with('-'));
    assert!(reply(&mut reading).contains("$1\r\na\r\n"));
}

#[test]
fn wait_counts_the_replicas_of_every_master() {
    let mut cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    }
    assert_eq!(wire.ask("WAIT 1 5000"), ":1\r\n");
    assert_eq!(wire.ask("WAIT x 5000"), "-ERR value is not an integer or out of range\r\n");
    let replica = cluster.replicas_of(cluster.masters()[1])[0];
    cluster.hang(replica);
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} 2")), "+OK\r\n");
    }
    assert_eq!(wire.ask("WAIT 1 100"), ":0\r\n");
    let id = wire.ask("CLIENT ID").trim().trim_start_matches(':').to_owned();
    wire.send(&line("WAIT 2 0"));
    until("it waits", || other.ask("CLIENT LIST").contains("flags=b"));
    assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}")), ":1\r\n");
    assert_eq!(reply(&mut wire), ":0\r\n");
    cluster.wake(replica);
}

#[test]
fn a_read_of_what_is_to_come_misses_nothing_when_the_slot_moves() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let (sidecar, masters) = (before(&cluster).start(), cluster.masters());
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut wire = sidecar.wire();
            wire.ask(hello);
            let from = cluster.owner(slot_of(&cluster.key_of(masters[0])));
            let (key, to) = (cluster.key_of(from), masters[1]);
            let (stream, other) = (format!("{{{key}}}s"), format!("{{{key}}}nosuch"));
            assert_eq!(wire.ask(&format!("XADD {stream} 7-1 a old")), "$3\r\n7-1\r\n");
            wire.send(&line(&format!("XREAD BLOCK 0 STREAMS {stream} {other} $ $")));
            waits_at(from, 1);
            let moved = cluster.begin_move(slot_of(&key), to);
            cluster.carry(moved, &[&stream]);
            let id = cluster.id(to);
            order(to, &format!("CLUSTER SETSLOT {} NODE {id}", moved.slot));
            assert_eq!(Wire::tcp(to).ask(&format!("XADD {stream} 7-2 a new")), "$3\r\n7-2\r\n");
            order(from, &format!("CLUSTER SETSLOT {} NODE {id}", moved.slot));
            let told = reply(&mut wire);
            assert!(told.contains("new") && !told.contains("old"), "{told}");
            cluster.healthy();
        }
    }
}

#[test]
fn waitaof_tells_the_fewest_of_all_masters() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 1, &["--appendonly", "yes"]);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        for key in cluster.key_of_each() {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
        }
        if Wire::tcp(cluster.ports[0]).ask("WAITAOF 0 0 1").starts_with("-ERR unknown command") {
            continue;
        }
        assert_eq!(wire.ask("WAITAOF 1 1 10000"), "*2\r\n:1\r\n:1\r\n", "{server:?}");
        let one = cluster.masters()[2];
        assert_eq!(Wire::tcp(one).ask("CONFIG SET appendonly no"), "+OK\r\n");
        assert!(wire.ask("WAITAOF 1 0 100").starts_with("-ERR WAITAOF cannot be used when numlocal is set"));
        assert_eq!(wire.ask("WAITAOF 0 1 10000"), "*2\r\n:0\r\n:1\r\n", "{server:?}");
    }
}
