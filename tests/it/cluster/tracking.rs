//! CLIENT TRACKING behind a cluster: a client hears of the keys of every node, or is told to forget all of them.

use super::{Cluster, Sidecar, before};
use crate::support::nodes::slot_of;
use crate::support::pushes::{ALL, of_key};
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn message(key: &str) -> String {
    let head = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
    format!("{head}*1\r\n${}\r\n{key}\r\n", key.len())
}

pub(super) fn in_front_of(cluster: &Cluster) -> Sidecar {
    let allowed = [warnings::SUBSCRIBED_AGAIN, warnings::NODE_SILENT, warnings::NODE_FAILED];
    before(cluster).expect(&allowed).start()
}

/// A client that uses RESP3 and tracks in this way.
fn tracking(sidecar: &Sidecar, options: &str) -> Wire {
    let mut wire = sidecar.wire();
    wire.ask("HELLO 3");
    assert_eq!(wire.ask(&format!("CLIENT TRACKING ON{options}")), "+OK\r\n");
    wire
}

/// Hears of this key, or of all, and perhaps of others before.
fn hears_of(wire: &mut Wire, key: &str) {
    loop {
        let told = wire.text();
        assert!(told.starts_with(">2\r\n$10\r\ninvalidate\r\n"), "{told}");
        if told == of_key(key) || told == ALL {
            return;
        }
    }
}

#[test]
fn a_client_hears_of_the_keys_of_every_node() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = in_front_of(&cluster);
        let (mut wire, mut writer, keys) = (tracking(&sidecar, ""), sidecar.wire(), cluster.key_of_each());
        for key in &keys {
            assert_eq!(wire.ask(&format!("GET {key}")), "_\r\n");
        }
        for key in &keys {
            assert_eq!(writer.ask(&format!("SET {key} 1")), "+OK\r\n");
            assert_eq!(wire.text(), of_key(key));
        }
        // Many at once, and in a transaction.
        assert_eq!(wire.ask(&format!("MGET {}", keys.join(" "))), "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n");
        for key in &keys {
            assert_eq!(writer.ask(&format!("SET {key} 2")), "+OK\r\n");
            assert_eq!(wire.text(), of_key(key));
            wire.ask("MULTI");
            wire.ask(&format!("GET {key}"));
            assert_eq!(wire.ask("EXEC"), "*1\r\n$1\r\n2\r\n");
            assert_eq!(Wire::tcp(cluster.owner(slot_of(key))).ask(&format!("SET {key} 1")), "+OK\r\n");
            assert_eq!(wire.text(), of_key(key));
        }
        // In a pipeline each invalidation stands behind the reply that it is about.
        let all: Vec<u8> = keys.iter().flat_map(|key| line(&format!("GET {key}"))).collect();
        wire.send(&all);
        keys.iter().for_each(|_| assert_eq!(wire.text(), "$1\r\n1\r\n"));
        for key in &keys {
            let mut told = [wire.ask(&format!("SET {key} 3")), wire.text()];
            told.sort();
            assert_eq!(told, ["+OK\r\n".to_owned(), of_key(key)], "its own write, too");
        }
        assert!(wire.ask("CLIENT TRACKINGINFO").contains("$2\r\non\r\n"));
        assert_eq!(wire.ask("CLIENT TRACKING OFF"), "+OK\r\n");
        wire.ask(&format!("GET {}", keys[0]));
        writer.ask(&format!("SET {} 4", keys[0]));
        assert_eq!(wire.ask("PING"), "+PONG\r\n");
    }
}

#[test]
fn prefixes_are_heard_of_at_every_node_and_own_writes_are_not() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let mut wire = tracking(&sidecar, " BCAST PREFIX key: NOLOOP");
    assert_eq!(wire.ask("CLIENT TRACKING ON BCAST PREFIX other: NOLOOP"), "+OK\r\n");
    assert_eq!(wire.text(), ALL, "it is begun again at the other nodes");
    let (mut writer, keys) = (sidecar.wire(), cluster.key_of_each());
    for key in &keys {
        assert_eq!(wire.ask(&format!("SET {key} mine")), "+OK\r\n");
        let other = format!("other:{{{key}}}");
        for key in [key, &other] {
            assert_eq!(writer.ask(&format!("SET {key} 1")), "+OK\r\n");
            assert_eq!(wire.text(), of_key(key));
        }
        writer.ask(&format!("SET no:{{{key}}} 1"));
    }
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
}

#[test]
fn what_is_said_of_the_next_request_holds_at_its_node() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let (mut writer, keys) = (sidecar.wire(), cluster.key_of_each());
    let mut wire = tracking(&sidecar, " OPTIN");
    for key in &keys {
        wire.ask(&format!("GET {key}"));
        writer.ask(&format!("SET {key} 1"));
        assert_eq!(wire.ask("CLIENT CACHING YES"), "+OK\r\n");
        assert_eq!(wire.ask("CLIENT GETNAME"), "_\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n1\r\n");
        writer.ask(&format!("SET {key} 2"));
        assert_eq!(wire.text(), of_key(key));
        // It is about one request.
        wire.ask(&format!("GET {key}"));
        writer.ask(&format!("SET {key} 3"));
        // Or a transaction.
        let pipeline = ["CLIENT CACHING YES", "MULTI", &format!("PTTL {key}"), &format!("GET {key}"), "EXEC"];
        wire.send(&pipeline.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
        let told: Vec<String> = pipeline.iter().map(|_| wire.text()).collect();
        assert_eq!(told[4], "*2\r\n:-1\r\n$1\r\n3\r\n");
        writer.ask(&format!("SET {key} 4"));
        assert_eq!(wire.text(), of_key(key));
        wire.ask("CLIENT CACHING YES");
        assert_eq!(wire.ask("PING"), "+PONG\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n4\r\n");
        writer.ask(&format!("SET {key} 5"));
        assert_eq!(wire.ask("PING"), "+PONG\r\n");
    }
    // Where it cannot be said before each part, the client must forget what it reads.
    wire.ask("CLIENT CACHING YES");
    assert!(wire.ask(&format!("MGET {}", keys.join(" "))).starts_with("*3\r\n"));
    assert_eq!(wire.text(), ALL);
    let mut wire = tracking(&sidecar, " OPTOUT");
    for key in &keys {
        assert_eq!(wire.ask("CLIENT CACHING NO"), "+OK\r\n");
        wire.ask(&format!("GET {key}"));
        writer.ask(&format!("SET {key} 1"));
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n1\r\n");
        writer.ask(&format!("SET {key} 2"));
        assert_eq!(wire.text(), of_key(key));
    }
}

/// Of a command with owned keys and others, and behind one that is answered elsewhere.
#[test]
fn what_is_said_of_the_next_request_is_used_up_by_it() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let (mut writer, key) = (sidecar.wire(), cluster.key_of_each().remove(1));
    writer.ask(&format!("SET {key} 1"));
    let mut wire = tracking(&sidecar, " OPTIN");
    assert_eq!(wire.ask("CLIENT CACHING YES"), "+OK\r\n");
    assert!(wire.ask(&format!("EXISTS item:apple:def {key}")).starts_with(":2"));
    writer.ask(&format!("SET {key} 2"));
    hears_of(&mut wire, &key);
    assert_eq!(wire.ask_past_pushes("CLIENT TRACKING OFF"), "+OK\r\n");
    assert_eq!(wire.ask_past_pushes("CLIENT TRACKING ON OPTOUT"), "+OK\r\n");
    let session = "HGET player:7:session hp";
    wire.ask_past_pushes("CLIENT CACHING NO");
    assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "$1\r\n2\r\n");
    wire.ask_past_pushes(session);
    writer.ask("HSET player:7:session hp 55");
    hears_of(&mut wire, "player:7:session");
}

/// It asks the nodes to tell itself from now on.
#[test]
fn a_client_whose_target_has_left_may_track_for_itself() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let (mut target, mut wire, mut writer) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    let id = target.ask("CLIENT ID");
    target.ask("HELLO 3");
    wire.ask("HELLO 3");
    assert_eq!(wire.ask(&format!("CLIENT TRACKING ON REDIRECT {}", id.trim_start_matches(':').trim_end())), "+OK\r\n");
    drop(target);
    until("it has left", || writer.ask("CLIENT LIST").lines().filter(|line| line.contains("id=")).count() == 2);
    assert_eq!(wire.ask_past_pushes("CLIENT TRACKING ON"), "+OK\r\n");
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "_\r\n");
        writer.ask(&format!("SET {key} 1"));
        hears_of(&mut wire, &key);
    }
}

#[test]
fn another_client_is_told_in_either_protocol() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut ear, mut data, mut writer) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
        ear.ask(hello);
        let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
        if hello == "HELLO 2" {
            ear.ask("SUBSCRIBE __redis__:invalidate");
        }
        assert_eq!(data.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
        assert_eq!(data.ask("CLIENT GETREDIR"), format!(":{id}\r\n"));
        assert!(data.ask("CLIENT TRACKINGINFO").contains(&format!("redirect\r\n:{id}\r\n")));
        for key in cluster.key_of_each() {
            data.ask(&format!("GET {key}"));
            writer.ask(&format!("SET {key} 1"));
            assert_eq!(ear.text(), if hello == "HELLO 2" { message(&key) } else { of_key(&key) });
        }
        // The client that is named leaves.
        data.ask("HELLO 3");
        let told = ear.text();
        assert!(told.ends_with("invalidate\r\n$-1\r\n") || told == ALL, "what it read before: {told}");
        let key = cluster.key_of_each().remove(1);
        data.ask(&format!("GET {key}"));
        drop(ear);
        until("it is gone", || !writer.ask(&format!("CLIENT LIST ID {id}")).contains("id="));
        writer.ask(&format!("SET {key} 2"));
        assert_eq!(data.text(), format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n"));
    }
}

#[test]
fn what_is_wrong_is_told_as_one_server_tells_it() {
    let cluster = Cluster::start();
    let (sidecar, twin) = (in_front_of(&cluster), crate::support::redis::Redis::start());
    let (mut ours, mut theirs) = (sidecar.wire(), twin.wire());
    for request in [
        "CLIENT CACHING YES",
        "CLIENT TRACKING ON REDIRECT 99999",
        "CLIENT TRACKING ON PREFIX a",
        "CLIENT TRACKING MAYBE",
        "CLIENT TRACKING ON OPTIN OPTOUT",
        "CLIENT TRACKING ON OPTIN",
        "CLIENT CACHING NO",
        "CLIENT CACHING PERHAPS",
        "CLIENT TRACKING ON BCAST",
        "CLIENT TRACKING OFF",
        "CLIENT TRACKING ON BCAST PREFIX ab PREFIX abc",
        "CLIENT GETREDIR",
        "CLIENT TRACKINGINFO",
    ] {
        assert_eq!(ours.ask(request), theirs.ask(request), "{request}");
    }
    ours.ask("MULTI");
    assert!(ours.ask("CLIENT TRACKING ON").contains("not supported inside MULTI behind a cluster"));
    assert!(ours.ask("EXEC").starts_with("-EXECABORT"));
}

#[test]
fn a_key_whose_slot_moves_is_still_heard_of() {
    let cluster = Cluster::start();
    let (sidecar, masters) = (in_front_of(&cluster), cluster.masters());
    let (mut wire, mut writer) = (tracking(&sidecar, ""), sidecar.wire());
    let mut broad = tracking(&sidecar, " BCAST PREFIX key:");
    for to in [masters[1], masters[2], masters[0]] {
        let key = cluster.key_of(masters[0]);
        let key = if to == masters[0] { "key:0".to_owned() } else { key };
        let slot = slot_of(&key);
        writer.ask(&format!("SET {key} 1"));
        assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "$1\r\n1\r\n");
        let moved = cluster.begin_move(slot, to);
        assert!(cluster.carry(moved, &[&key]));
        hears_of(&mut wire, &key);
        // It is read where it is already.
        assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "$1\r\n1\r\n");
        cluster.finish_move(moved);
        assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "$1\r\n1\r\n");
        assert_eq!(Wire::tcp(to).ask(&format!("SET {key} 2")), "+OK\r\n");
        hears_of(&mut wire, &key);
        hears_of(&mut broad, &key);
    }
}

#[test]
fn when_a_master_is_replaced_everything_is_forgotten() {
    for is_killed in [false, true] {
        let mut cluster = Cluster::start();
        let sidecar = in_front_of(&cluster);
        let (mut wire, mut broad) = (tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX key:"));
        let (mut ear, mut data) = (sidecar.wire(), sidecar.wire());
        let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
        ear.ask("SUBSCRIBE __redis__:invalidate");
        assert_eq!(data.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
        for master in cluster.masters() {
            let key = cluster.key_of(master);
            sidecar.wire().ask(&format!("SET {key} 1"));
            assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "$1\r\n1\r\n");
            data.ask_past_pushes(&format!("GET {key}"));
            if is_killed {
                cluster.kill(master);
                cluster.replaced(&key);
            } else {
                cluster.fail_over(master);
            }
            // Without having asked for anything.
            while wire.text() != ALL {}
            while broad.text() != ALL {}
            while !ear.text().ends_with("invalidate\r\n$-1\r\n") {}
            for key in cluster.key_of_each() {
                let told =
                    || [wire.ask_past_pushes(&format!("GET {key}")), data.ask_past_pushes(&format!("GET {key}"))];
                let mut told = told;
                until("it is read again", || told().iter().all(|told| !told.starts_with('-')));
                let owner = cluster.owner(slot_of(&key));
                assert_eq!(Wire::tcp(owner).ask(&format!("SET {key} 2")), "+OK\r\n");
                hears_of(&mut wire, &key);
                while !ear.text().ends_with(&format!("{key}\r\n")) {}
                hears_of(&mut broad, &key);
            }
            if is_killed {
                cluster.launch(master);
                cluster.healthy();
            }
        }
    }
}

#[test]
fn a_lost_connection_is_made_good() {
    let cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let (mut wire, mut broad) = (tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX key:"));
    for master in cluster.masters() {
        let key = cluster.key_of(master);
        assert_eq!(wire.ask_past_pushes(&format!("GET {key}")), "_\r\n");
        assert!(Wire::tcp(master).ask("CLIENT KILL TYPE normal").starts_with(':'));
        assert_eq!(wire.text(), ALL);
        assert_eq!(broad.text(), ALL);
        wire.ask_past_pushes(&format!("GET {key}"));
        until("it listens there again", || {
            let list = Wire::tcp(master).ask("CLIENT LIST");
            list.lines().filter(|line| line.contains("flags=tB")).count() == 1
        });
        Wire::tcp(master).ask(&format!("SET {key} 1"));
        hears_of(&mut wire, &key);
        hears_of(&mut broad, &key);
        Wire::tcp(master).ask(&format!("DEL {key}"));
        hears_of(&mut broad, &key);
    }
}
