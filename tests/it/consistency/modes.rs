//! Mappings change over to the mode `fallback` and back to `on`. The upstream has none of their keys, so that the store
//! answers for them all the time, and every promise holds across every switch.

use std::thread;
use std::time::Duration;

use super::Attack;
use super::faults::{any_sidecar, moment};
use super::world::SIDECARS;
use crate::differential::stream::Dice;
use crate::support::wire::Wire;

/// At one sidecar, which tells the other one, or at both at once, whose words cross.
pub fn to_fallback_and_back(attack: &Attack, dice: &mut Dice) {
    let (first, both) = (any_sidecar(dice), dice.roll(2) == 1);
    for mode in ["fallback", "on", "fallback", "on"] {
        thread::scope(|scope| {
            for i in (0..SIDECARS).filter(|i| both || *i == first) {
                scope.spawn(move || ask(attack, i, mode));
            }
        });
        thread::sleep(moment(dice));
    }
    restore(attack);
}

/// While writes wait for their tables, longer than a change of the mode waits for them.
pub fn under_locks(attack: &Attack, dice: &mut Dice) {
    let mut session = attack.world.postgres().session();
    session.run("BEGIN; LOCK TABLE things, registers, fleeting IN EXCLUSIVE MODE;");
    ask(attack, any_sidecar(dice), "fallback");
    thread::sleep(moment(dice));
    session.run("COMMIT;");
    restore(attack);
}

/// All of them are on again.
fn restore(attack: &Attack) {
    (0..SIDECARS).for_each(|i| ask(attack, i, "on"));
}

/// Until it is done, or the sidecar is away.
fn ask(attack: &Attack, i: usize, mode: &str) {
    let wire = Wire::try_tcp(attack.world.ports[i], Duration::from_secs(8));
    let told = wire.and_then(|mut wire| wire.try_ask(&format!("HEARTHSIDE MODE ALL {mode}")));
    assert!(told.is_none_or(|told| !told.starts_with("-ERR hearthside: HEARTHSIDE MODE")), "{mode} is a mode");
}
