//! What stands behind the sidecars for the keys that nobody owns: one Redis, or a group that sentinels watch over.
//! HEARTHSIDE_TOPOLOGY says which: single (the default) or sentinel.

use std::thread;

use super::faults::moment;
use crate::differential::stream::Dice;
use crate::support::redis::Redis;
use crate::support::sentinels::Group;

pub enum Upstream {
    Single(Redis),
    Sentinel(Group),
}

impl Upstream {
    pub fn start() -> Self {
        match std::env::var("HEARTHSIDE_TOPOLOGY").as_deref() {
            Ok("sentinel") => Self::Sentinel(Group::with(3, &[])),
            Ok("single") | Err(_) => Self::Single(Redis::start()),
            Ok(other) => panic!("HEARTHSIDE_TOPOLOGY is single or sentinel, not {other}"),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(group) => group.url(),
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
        }
    }
}
