//! An upstream that is several servers.

use std::thread;

use super::tables::{Said, Tables};
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::Server;
use crate::support::sentinels::Group;
use crate::support::until;
use crate::support::wire::Wire;

#[test]
fn every_key_of_a_cluster_is_copied_although_slots_move_meanwhile() {
    let (tables, cluster) = (Tables::sqlite(), Cluster::with(Server::Installed, 0, &[]));
    let masters = cluster.masters();
    for port in &masters {
        let mut wire = Wire::tcp(*port);
        // Each takes those that are its own.
        for id in 1..=900 {
            wire.ask(&format!("HSET p:{id} f a{id}"));
        }
    }
    let copied = || tables.sql("SELECT count(*) FROM plains").parse::<u32>().expect("a number");
    let builder = tables.builder(&cluster.url());
    let told: Said = thread::scope(|scope| {
        let import = scope.spawn(|| builder.execute(&["import", "p:{id:int}", "--batch", "20", "--rate", "300"]));
        until("some are copied", || copied() > 20);
        for id in [100, 300, 500, 700] {
            let slot = slot_of(&format!("p:{id}"));
            let owner = cluster.owner(slot);
            let to = masters.iter().find(|port| **port != owner).expect("another master");
            cluster.move_slot(slot, *to);
        }
        import.join().expect("it ends").into()
    });
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert_eq!(tables.sql("SELECT count(*) FROM plains WHERE f = 'a' || id"), "900");
    told.expect(0, &["refused 0", "different 0"]);
}

/// It does not list all keys for ever.
#[test]
fn a_slot_that_stays_between_two_masters_ends_the_import_with_a_reason() {
    let (tables, cluster) = (Tables::sqlite(), Cluster::with(Server::Installed, 0, &[]));
    let masters = cluster.masters();
    let (key, slot) = ("p:7", slot_of("p:7"));
    let owner = cluster.owner(slot);
    let to = *masters.iter().find(|port| **port != owner).expect("another master");
    Wire::tcp(owner).ask(&format!("HSET {key} f a"));
    let on = cluster.begin_move(slot, to);
    assert!(cluster.carry(on, &[key]));
    let told: Said = tables.builder(&cluster.url()).execute(&["import", "p:{id:int}"]).into();
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    assert!(told.out.contains("slots that move from node to node and do not arrive"), "{}", told.out);
    cluster.finish_move(on);
    let told: Said = tables.builder(&cluster.url()).execute(&["import", "p:{id:int}"]).into();
    told.expect(0, &["copied 1", "compared and equal 1"]);
}

#[test]
fn keys_of_a_master_that_sentinels_name_are_copied() {
    let (tables, group) = (Tables::sqlite(), Group::start());
    let mut wire = Wire::tcp(group.master());
    for id in 1..=300 {
        wire.ask(&format!("HSET p:{id} f a{id}"));
    }
    let told: Said = tables.builder(&group.url()).execute(&["import", "p:{id:int}"]).into();
    told.expect(0, &["copied 300", "compared and equal 300"]);
}
