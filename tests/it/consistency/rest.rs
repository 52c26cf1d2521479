//! When everything is back, the store holds every last acknowledged write, and the sidecars show it.

use super::Attack;
use super::client::Client;
use super::fleeting::FLEETING;
use super::near::{NEAR, name_of};
use super::world::{KEYS, SIDECARS};
use crate::support::admin::metric;
use crate::support::until;

/// Waits until all is at rest, and checks it.
pub fn comes(attack: &Attack) {
    let mut clients = Client::of_each(attack);
    for (i, client) in clients.iter_mut().enumerate() {
        until("the sidecar serves", || client.read("HGET thing:0 v").is_some());
        until("its journal is empty", || {
            attack.world.with(i, |sidecar| {
                sidecar.log().contains("ready for clients") && metric(sidecar, "hearthside_journal_bytes") == 0.0
            }) == Some(true)
        });
    }
    for key in 0..KEYS {
        let things = &attack.things;
        shows(attack, &mut clients, ("things", "v", key), |stored| things.through[key].check_final("C1", stored));
        shows(attack, &mut clients, ("things", "d", key), |stored| things.deferred[key].check_final("C5", stored));
    }
    for key in 0..FLEETING {
        let history = &attack.fleeting.histories[key];
        shows(attack, &mut clients, ("fleeting", "v", key), |stored| history.check_final("C1", stored));
    }
    (0..NEAR).for_each(|key| shows_near(attack, &mut clients, key));
    for i in 0..SIDECARS {
        attack.world.expect_no_stale_reads(i);
    }
}

fn shows(
    attack: &Attack,
    clients: &mut [Client],
    (table, field, key): (&str, &str, usize),
    check: impl Fn(Option<u64>) -> Option<super::Violation>,
) {
    let stored = attack.world.postgres().sql(&format!("SELECT {field} FROM {table} WHERE id = {key}")).parse().ok();
    let name = format!("{}:{key} {field}", table.trim_end_matches('s'));
    attack.saw(&name, check(stored));
    for client in clients {
        until("the sidecars show what the store holds", || client.read(&format!("HGET {name}")) == Some(stored));
    }
}

/// Both sidecars show of a key of the upstream what it holds, and from memory.
fn shows_near(attack: &Attack, clients: &mut [Client], key: usize) {
    let (name, history) = (name_of(key), &attack.near.histories[key]);
    let mut told = Vec::new();
    for (i, client) in clients.iter_mut().enumerate() {
        let hits = || attack.world.with(i, |sidecar| metric(sidecar, "hearthside_near_hits_total{keys=\"near:*\"}"));
        let before = hits();
        until("it is answered from memory", || {
            told.push(client.read(&format!("GET {name}")));
            hits() > before
        });
    }
    let last = told.last().copied().flatten().flatten();
    attack.saw(&name, history.check_final("C9", last));
    until("all sidecars show the same", || {
        clients.iter_mut().all(|client| client.read(&format!("GET {name}")) == Some(last))
    });
}
