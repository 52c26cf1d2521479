//! Pub/sub, plain and sharded: a client sees one Redis, whichever node takes a message.

use std::time::Duration;

use super::{Cluster, Sidecar, before};
use crate::support::nodes::slot_of;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const MODES: [&str; 2] = ["exact", "shared"];

fn in_mode(cluster: &Cluster, mode: &str) -> Sidecar {
    let allowed = [warnings::SUBSCRIBED_AGAIN, warnings::SHARED_SUBSCRIBER_DOWN, warnings::NODE_SILENT];
    before(cluster).set("PUBSUB__MODE", mode).expect(&allowed).expect(&[warnings::NODE_FAILED]).start()
}

fn subscribed(sidecar: &Sidecar, hello: &str, request: &str) -> Wire {
    let mut wire = sidecar.wire();
    wire.ask(hello);
    wire.send(&line(request));
    for (count, name) in request.split(' ').skip(1).enumerate() {
        let told = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert!(told.contains(name) && told.ends_with(&format!(":{}\r\n", count + 1)), "{request}: {told}");
    }
    wire
}

#[test]
fn what_any_node_is_told_every_subscriber_hears() {
    let cluster = Cluster::start();
    for mode in MODES {
        let sidecar = in_mode(&cluster, mode);
        let mut channel = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE news other");
        let mut pattern = subscribed(&sidecar, "HELLO 3", "PSUBSCRIBE n*");
        for port in &cluster.ports {
            Wire::tcp(*port).ask("PUBLISH news hi");
            assert_eq!(channel.text(), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n", "{mode}");
            assert_eq!(pattern.text(), ">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n", "{mode}");
        }
        assert_eq!(sidecar.wire().ask("PUBLISH news through"), ":2\r\n", "{mode}");
        assert!(channel.text().contains("through"));
        assert!(pattern.text().contains("through"));
        // It still asks for keys, wherever they are.
        for key in cluster.key_of_each() {
            assert_eq!(pattern.ask(&format!("SET {key} x")), "+OK\r\n", "{mode}");
        }
        assert!(channel.ask("UNSUBSCRIBE news").ends_with(":1\r\n"), "{mode}");
    }
}

#[test]
fn sharded_messages_are_heard_whichever_slots_their_channels_are_in() {
    let cluster = Cluster::start();
    for mode in MODES {
        let sidecar = in_mode(&cluster, mode);
        let channels = cluster.key_of_each();
        let mut wire = subscribed(&sidecar, "HELLO 2", &format!("SSUBSCRIBE {}", channels.join(" ")));
        for channel in &channels {
            assert_eq!(sidecar.wire().ask(&format!("SPUBLISH {channel} hi")), ":1\r\n", "{mode}");
            assert!(wire.text().contains(&format!("smessage\r\n${}\r\n{channel}\r\n", channel.len())), "{mode}");
        }
        wire.send(&line("SUNSUBSCRIBE"));
        let told: Vec<String> = channels.iter().map(|_| wire.text()).collect();
        assert!(told.last().expect("some").ends_with(":0\r\n"), "{mode}: {told:?}");
    }
}

/// What comes next; a client may be told of more than one gap.
fn past_gaps(wire: &mut Wire) -> String {
    loop {
        let told = wire.text();
        if !told.contains("may have been missed") {
            return told;
        }
    }
}

#[test]
fn a_sharded_subscription_follows_its_slot() {
    let cluster = Cluster::start();
    let masters = cluster.masters();
    for (mode, target) in MODES.into_iter().zip([masters[1], masters[2]]) {
        let sidecar = in_mode(&cluster, mode);
        let channel = cluster.key_of(masters[0]);
        let slot = slot_of(&channel);
        let mut wire = subscribed(&sidecar, "HELLO 2", &format!("SSUBSCRIBE {channel}"));
        wire.ask("SUBSCRIBE __hearthside__:gap");
        cluster.move_slot(slot, target);
        assert!(wire.text().contains("messages may have been missed"), "{mode}");
        assert_eq!(sidecar.wire().ask(&format!("SPUBLISH {channel} hi")), ":1\r\n", "{mode}");
        let told = past_gaps(&mut wire);
        assert!(told.starts_with("*3\r\n$8\r\nsmessage\r\n"), "{mode}: {told}");
        wire.send(&line(&format!("SUNSUBSCRIBE {channel}")));
        let told = past_gaps(&mut wire);
        assert!(told.ends_with(":0\r\n"), "{mode}: {told}");
    }
}

#[test]
fn subscribers_survive_the_loss_of_any_node() {
    for mode in MODES {
        let mut cluster = Cluster::start();
        let sidecar = in_mode(&cluster, mode);
        let master = cluster.masters()[0];
        let channel = cluster.key_of(master);
        let mut plain = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE news __hearthside__:gap");
        let mut sharded = subscribed(&sidecar, "HELLO 2", &format!("SSUBSCRIBE {channel}"));
        cluster.kill(master);
        cluster.replaced(&channel);
        let mut told = sidecar.wire();
        until("there is a home again", || told.ask("PUBLISH news hi").ends_with(":1\r\n"));
        until("the sharded channel is served again", || told.ask(&format!("SPUBLISH {channel} hi")) == ":1\r\n");
        let first = plain.text();
        assert!(first.contains("may have been missed") || first.contains("hi"), "{mode}: {first}");
        assert!(sharded.text().contains("smessage"), "{mode}");
    }
}

#[test]
fn keyspace_notifications_come_from_every_node_and_other_messages_once() {
    let cluster = Cluster::with(crate::support::redis::Server::Installed, 1, &["--notify-keyspace-events", "KEA"]);
    for mode in MODES {
        let sidecar = in_mode(&cluster, mode);
        let mut wire = subscribed(&sidecar, "HELLO 2", "PSUBSCRIBE *");
        let mut sets = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE __keyevent@0__:set");
        let mut writer = sidecar.wire();
        for key in cluster.key_of_each() {
            writer.ask(&format!("SET {key} x"));
            assert!(wire.text().contains(&format!("__keyspace@0__:{key}")), "{mode}");
            assert!(wire.text().contains("__keyevent@0__:set"), "{mode}");
            assert!(sets.text().ends_with(&format!("{key}\r\n")), "{mode}");
        }
        for port in cluster.masters() {
            Wire::tcp(port).ask("PUBLISH news once");
            assert!(wire.text().contains("once"), "{mode}");
        }
        assert!(wire.is_silent(Duration::from_millis(100)), "{mode}: each came once");
    }
}

#[test]
fn who_is_subscribed_at_any_node_is_told() {
    let cluster = Cluster::start();
    let sidecar = in_mode(&cluster, "exact");
    let _here = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE news");
    let _keys = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE __keyevent@0__:set");
    let elsewhere: Vec<Wire> = cluster
        .ports
        .iter()
        .map(|port| {
            let mut wire = Wire::tcp(*port);
            assert!(wire.ask(&format!("PSUBSCRIBE {port}*")).ends_with(":1\r\n"));
            assert!(wire.ask("SUBSCRIBE news").ends_with(":2\r\n"));
            wire
        })
        .collect();
    let shards: Vec<(String, Wire)> = cluster
        .masters()
        .into_iter()
        .map(|port| {
            let (channel, mut wire) = (cluster.key_of(port), Wire::tcp(port));
            assert!(wire.ask(&format!("SSUBSCRIBE {channel}")).ends_with(":1\r\n"));
            (channel, wire)
        })
        .collect();
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = sidecar.wire();
        wire.ask(hello);
        let all = elsewhere.len() + 1;
        let told = format!("*4\r\n$4\r\nnews\r\n:{all}\r\n$5\r\nother\r\n:0\r\n");
        assert_eq!(wire.ask("PUBSUB NUMSUB news other"), told);
        assert_eq!(wire.ask("PUBSUB NUMSUB"), "*0\r\n");
        assert_eq!(wire.ask("PUBSUB CHANNELS n*"), "*1\r\n$4\r\nnews\r\n");
        assert!(wire.ask("PUBSUB CHANNELS").starts_with("*2\r\n"));
        assert!(wire.ask("PUBSUB NUMSUB __keyevent@0__:set").ends_with("set\r\n:1\r\n"), "it is at every master");
        assert_eq!(wire.ask("PUBSUB NUMPAT"), format!(":{}\r\n", elsewhere.len()));
        for (channel, _) in &shards {
            assert!(wire.ask("PUBSUB SHARDCHANNELS").contains(channel.as_str()));
            assert!(wire.ask(&format!("PUBSUB SHARDNUMSUB {channel}")).ends_with(":1\r\n"));
        }
        assert!(wire.ask("PUBSUB NOSUCH").starts_with("-ERR unknown subcommand 'NOSUCH'"));
    }
}

#[test]
fn who_gets_a_message_sees_what_was_written_before_it() {
    let cluster = Cluster::start();
    let sidecar = in_mode(&cluster, "exact");
    let mut subscriber = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE changed");
    let (mut writer, keys) = (sidecar.wire(), cluster.key_of_each());
    // The node of a write is slow: the message must not pass it.
    for (i, key) in keys.iter().enumerate() {
        let port = cluster.owner(slot_of(key));
        let mut slow = Wire::tcp(port);
        slow.send(
            &line("EVAL for~i=1,30000000~do~end 0")
                .iter()
                .map(|b| if *b == b'~' { b' ' } else { *b })
                .collect::<Vec<_>>(),
        );
        writer.send(&[line(&format!("SET {key} {i}")), line("PUBLISH changed x")].concat());
        subscriber.frame();
        assert_eq!(Wire::tcp(port).ask(&format!("GET {key}")), format!("$1\r\n{i}\r\n"));
        assert_eq!((writer.frame(), writer.frame()), (b"+OK\r\n".to_vec(), b":1\r\n".to_vec()));
    }
}

#[test]
fn a_client_that_wants_to_be_closed_is_closed() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).set("PUBSUB__ON_LOSS", "close").expect(&[warnings::OWN_CONNECTION_LOST]).start();
    let mut wire = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE news");
    for port in &cluster.ports {
        Wire::tcp(*port).ask("CLIENT KILL TYPE pubsub");
    }
    assert_eq!(wire.rest(), b"");
}

#[test]
fn subscribing_inside_a_transaction_is_refused() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    wire.ask("MULTI");
    assert!(wire.ask("SUBSCRIBE a").contains("or behind a cluster"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
}
