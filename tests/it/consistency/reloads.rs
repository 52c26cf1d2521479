//! Reloads that change mappings while deferred writes cannot be saved.

use std::thread;

use super::Attack;
use super::faults::{any_sidecar, held_flush, moment};
use super::world::World;
use crate::differential::stream::Dice;

/// The lifetimes that a mapping's block names in turn.
const LIFETIMES: [&str; 2] = ["ttl = \"1h\"", "ttl = \"50m\""];

/// While a flush is held, which is delivered late.
pub fn under_a_flush(attack: &Attack, dice: &mut Dice) {
    let (i, pause) = (any_sidecar(dice), moment(dice));
    held_flush(&attack.world, i, || {
        change_mappings(&attack.world, i);
        thread::sleep(pause);
    });
}

/// While flushes wait for their tables; sometimes twice in a row.
pub fn under_locks(attack: &Attack, dice: &mut Dice) {
    let i = any_sidecar(dice);
    let mut session = attack.world.postgres().session();
    session.run("BEGIN; LOCK TABLE things, registers IN EXCLUSIVE MODE;");
    for _ in 0..=dice.roll(2) {
        thread::sleep(moment(dice));
        change_mappings(&attack.world, i);
    }
    thread::sleep(moment(dice));
    session.run("COMMIT;");
}

/// Gives every mapping of a sidecar another block.
fn change_mappings(world: &World, i: usize) {
    world.with(i, |sidecar| {
        if !sidecar.log().contains("ready for clients") {
            return;
        }
        let text = sidecar.configuration();
        let [one, other] = LIFETIMES;
        let is_one = text.contains(one);
        let changed = if is_one { text.replace(one, other) } else { text.replace(other, one) };
        sidecar.configure(&changed);
        sidecar.signal("HUP");
    });
}
