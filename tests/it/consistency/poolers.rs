//! The PgBouncer before the store of one sidecar, restarted and paused.

use std::thread;

use super::Attack;
use super::faults::moment;
use super::world::MAX_STALENESS;
use crate::differential::stream::Dice;

pub fn restart(attack: &Attack, dice: &mut Dice) {
    let mut pooler = attack.world.pooler();
    pooler.stop();
    thread::sleep(moment(dice));
    pooler.launch();
}

pub fn pause(attack: &Attack, dice: &mut Dice) {
    let pooler = attack.world.pooler();
    assert!(pooler.tell("PAUSE"));
    thread::sleep(moment(dice) + MAX_STALENESS);
    assert!(pooler.tell("RESUME"));
}
