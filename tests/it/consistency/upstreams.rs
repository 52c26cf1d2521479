//! What stands behind the sidecars for the keys that nobody owns: one Redis, a group that sentinels watch over,
//! or a cluster. HEARTHSIDE_TOPOLOGY says which: single (the default), sentinel or cluster.

use std::thread;
use std::time::Duration;

use super::faults::moment;
use super::world::SIDECARS;
use crate::differential::stream::Dice;
use crate::support::clusters::Cluster;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sentinels::Group;

pub enum Upstream {
    /// Each sidecar has a way of its own to it.
    Single(Redis, [Proxy; SIDECARS]),
    Sentinel(Group),
    Cluster(Cluster),
}

impl Upstream {
    pub fn start() -> Self {
        match std::env::var("HEARTHSIDE_TOPOLOGY").as_deref() {
            Ok("sentinel") => Self::Sentinel(Group::with(3, &[])),
            Ok("cluster") => Self::Cluster(Cluster::start()),
            Ok("single") | Err(_) => Self::single(),
            Ok(other) => panic!("HEARTHSIDE_TOPOLOGY is single, sentinel or cluster, not {other}"),
        }
    }

    /// One that loses nothing that it has acknowledged.
    fn single() -> Self {
        let redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let ways = [(); SIDECARS].map(|()| Proxy::to(redis.port));
        Self::Single(redis, ways)
    }

    /// Whether it keeps what it has acknowledged whatever happens.
    pub const fn is_durable(&self) -> bool {
        matches!(self, Self::Single(..))
    }

    /// The port of the one server.
    pub const fn port(&self) -> Option<u16> {
        if let Self::Single(redis, _) = self { Some(redis.port) } else { None }
    }

    /// Where it is for a sidecar.
    pub fn url(&self, i: usize) -> String {
        match self {
            Self::Single(_, ways) => format!("redis://127.0.0.1:{}", ways[i].port),
            Self::Sentinel(group) => group.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Waits until nothing is lost any more.
    pub fn settled(&self) {
        match self {
            Self::Single(..) => {}
            Self::Sentinel(group) => group.settled(),
            Self::Cluster(cluster) => cluster.healthy(),
        }
    }

    /// Kills the server that takes commands, and starts it again: of a group perhaps when another one has taken its
    /// place. Or another one takes its place in order. The one server may also hang, and the ways to it may be spoilt.
    pub fn disturb(&mut self, dice: &mut Dice) {
        match self {
            Self::Single(redis, ways) => disturb_one(redis, ways, dice),
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

/// It is killed or hangs, or the connections to it are closed, or open and silent: for longer than the kept replies are
/// vouched for, and shorter than a writer waits before it takes a key again whose write was not answered.
fn disturb_one(redis: &mut Redis, ways: &[Proxy; SIDECARS], dice: &mut Dice) {
    let long = moment(dice) + Duration::from_secs(1);
    match dice.roll(4) {
        0 => {
            redis.kill();
            redis.launch();
        }
        1 => {
            redis.pause(true);
            thread::sleep(long);
            redis.pause(false);
        }
        2 => dice.pick(ways).cut(),
        _ => {
            let way = dice.pick(ways);
            way.hold(true);
            thread::sleep(long);
            way.hold(false);
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
