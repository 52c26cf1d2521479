//! The contract over failovers: the store is a primary and its standby, which is promoted again and again under load.
//! The primary confirms nothing that the standby does not have (`synchronous_standby_names`), so that nothing may be
//! lost. `scripts/consistency --failover` runs it longer.

use std::thread;
use std::time::Duration;

use super::deck::{Deck, Kind};
use super::faults::{self, any_sidecar, moment};
use super::feeds::Feed;
use super::world::{MAX_STALENESS, SIDECARS, World};
use super::{Attack, reloads, withstands};
use crate::differential::stream::Dice;
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::sidecar::Sidecar;
use crate::support::{setting, until};

const KINDS: &[Kind<Attack>] = &[
    ("the primary ended, its standby promoted", end_primary),
    ("the primary ended with a sidecar, its standby promoted", end_primary_and_a_sidecar),
    ("the primary made a standby, its standby promoted", demote_primary),
    ("the primary silent, its standby promoted, and the old primary there again", silence_primary),
    ("a sidecar killed and started again", faults::kill),
    ("a sidecar's store connections cut", faults::cut),
    ("a sidecar's store connections open and silent", faults::silence),
    ("slow commits: the tables locked", faults::slow_commits),
    ("a mass update", faults::update_all),
    ("a flush delivered late", faults::deliver_late),
    ("a flush delivered late, its sidecar killed meanwhile", faults::deliver_late_after_a_kill),
    ("every connection ended by Postgres", faults::end_connections),
    ("mappings reloaded while a flush is held", reloads::under_a_flush),
];

#[test]
fn no_failover_breaks_a_promise() {
    let (seed, feed) = (setting("HEARTHSIDE_SEED", 0x00fa_110e), Feed::wanted());
    eprintln!("failovers: HEARTHSIDE_SEED={seed} HEARTHSIDE_FEED={}", feed.name());
    let time = Duration::from_secs(setting("HEARTHSIDE_CONSISTENCY_SECONDS", 40));
    withstands(&Attack::on(World::with_standby(feed)), Deck::of(KINDS.to_vec()), seed, time);
}

fn end_primary(attack: &Attack, dice: &mut Dice) {
    let pause = moment(dice);
    attack.world.fail_over(|old, promote| {
        old.stop();
        thread::sleep(pause);
        promote();
        thread::sleep(pause);
    });
}

/// What the sidecar has sent and not noted is settled at the new primary.
fn end_primary_and_a_sidecar(attack: &Attack, dice: &mut Dice) {
    let (i, pause) = (any_sidecar(dice), moment(dice));
    attack.world.fail_over(|old, promote| {
        old.stop();
        attack.world.kill(i);
        promote();
        attack.world.start(i);
        thread::sleep(pause);
    });
}

fn demote_primary(attack: &Attack, dice: &mut Dice) {
    let pause = moment(dice);
    attack.world.fail_over(|old, promote| {
        old.demote();
        promote();
        thread::sleep(pause);
    });
}

/// Waits until every sidecar hears the primary: one that has just started, and reaches an old one alone, cannot know what
/// that is (decision 0030).
fn all_follow(world: &World) {
    let hears =
        |sidecar: &Sidecar| sidecar.log().contains("admin port") && metric(sidecar, "hearthside_change_feed_up") == 1.0;
    until("every sidecar hears the primary", || (0..SIDECARS).all(|i| world.with(i, hears) == Some(true)));
}

/// Nobody tells the old primary that it is none any more: when it can be reached again it takes what it is sent, and
/// the new one cannot be reached for a while. It confirms nothing, because its standby has gone; what is read there is
/// of the past.
fn silence_primary(attack: &Attack, dice: &mut Dice) {
    let pause = moment(dice);
    let hold = |ways: &[&Proxy], held: bool| ways.iter().for_each(|way| way.hold(held));
    let of_all = || (0..SIDECARS).map(|i| attack.world.way_to_primary(i)).collect::<Vec<&Proxy>>();
    all_follow(&attack.world);
    let to_old = of_all();
    attack.world.fail_over(|_, promote| {
        hold(&to_old, true);
        promote();
        thread::sleep(MAX_STALENESS);
        all_follow(&attack.world);
        hold(&to_old, false);
        let to_new = of_all();
        hold(&to_new, true);
        thread::sleep(pause + 2 * MAX_STALENESS);
        hold(&to_new, false);
        thread::sleep(pause);
    });
}
