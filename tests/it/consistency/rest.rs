//! When everything is back, the store holds every last acknowledged write, and the sidecars show it.

use super::Attack;
use super::client::Client;
use super::fleeting::FLEETING;
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
