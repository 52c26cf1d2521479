//! What stands behind the sidecars for the keys that nobody owns: one Redis, a group that sentinels watch over,
//! or a cluster. HEARTHSIDE_TOPOLOGY says which: single (the default), sentinel or cluster.

use std::thread;

use super::faults::moment;
use crate::differential::stream::Dice;
use crate::support::clusters::Cluster;
use crate::support::redis::Redis;
use crate::support::sentinels::Group;

pub enum Upstream {
    Single(Redis),
    Sentinel(Group),
    Cluster(Cluster),
}

impl Upstream {
    pub fn start() -> Self {
        match std::env::var("HEARTHSIDE_TOPOLOGY").as_deref() {
            Ok("sentinel") => Self::Sentinel(Group::with(3, &[])),
            Ok("cluster") => Self::Cluster(Cluster::start()),
            Ok("single") | Err(_) => Self::Single(Redis::start()),
            Ok(other) => panic!("HEARTHSIDE_TOPOLOGY is single, sentinel or cluster, not {other}"),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(group) => group.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Kills the server that takes commands, and starts it again: of a group perhaps when another one has taken its
    /// place. Or another one takes its place in order.
    pub fn disturb(&mut self, dice: &mut Dice) {
        match self {
            Self::Single(redis) => {
                redis.kill();
                redis.launch();
            }
            Self::Sentinel(group) if dice.roll(2) == 0 => group.ask_to_fail_over(),
            Self::Sentinel(group) => {
                let master = group.master_server();
                master.kill();
                thread::sleep(moment(dice) * 2);
                master.launch();
            }
            Self::Cluster(cluster) => disturb_a_cluster(cluster, dice),
        }
    }
}

/// Slots move, another master takes the place of one in order, or a master is killed and started again, perhaps when
/// another one has taken its place.
fn disturb_a_cluster(cluster: &mut Cluster, dice: &mut Dice) {
    cluster.healthy();
    let masters = cluster.masters();
    let master = *dice.pick(&masters);
    match dice.roll(3) {
        0 => (0..20).for_each(|_| cluster.move_slot(dice.roll(16384) as u16, *dice.pick(&masters))),
        1 => drop(cluster.fail_over(master)),
        _ => {
            cluster.kill(master);
            thread::sleep(moment(dice) * 2);
            cluster.launch(master);
        }
    }
}
