//! What goes wrong, one fault after the other. A run of a minute and a half makes each kind of them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::deck::Kind;
use super::world::{KEYS, MAX_STALENESS, SIDECARS, World};
use super::{Attack, BOUND};
use super::{feeds, fleeting, journals, modes, poolers, reloads, schema_changes, things};
use crate::differential::stream::Dice;
use crate::support::proxy::Proxy;

/// After so long a flush is given up: a second more than a connection and a statement may take.
const DEADLINE: Duration = Duration::from_secs(3);

pub const KINDS: &[Kind<Attack>] = &[
    ("a sidecar killed and started again", kill),
    ("Postgres stopped at once and started again", stop_postgres),
    ("the upstream disturbed", disturb_the_upstream),
    ("a sidecar's store connections cut", cut),
    ("a sidecar's store connections open and silent", silence),
    ("slow commits: the tables locked", slow_commits),
    ("slow loads and commits: the tables locked", |attack, dice| lock(attack, dice, "ACCESS EXCLUSIVE")),
    ("a mass update", update_all),
    ("the change connections' Postgres processes stopped", feeds::freeze),
    ("a sidecar's wall clock stepped", step_the_clock),
    ("a flush delivered late", deliver_late),
    ("a flush delivered late, its sidecar killed meanwhile", deliver_late_after_a_kill),
    ("every connection ended by Postgres", end_connections),
    ("commits that are in the log and cannot be seen yet", hold_commits),
    ("a column that comes and goes", schema_changes::add_and_drop),
    ("a column of another type", schema_changes::retype),
    ("columns of other names", schema_changes::rename),
    ("a table replaced by a copy", schema_changes::swap),
    ("a partition detached and attached", fleeting::detach),
    ("a partition detached and attached while the catalog cannot be read", fleeting::detach_unseen),
    ("a journal that went back in time", journals::restore),
    ("two sidecars with copies of one journal", journals::copy),
    ("the pooler restarted", poolers::restart),
    ("the pooler paused", poolers::pause),
    ("mappings in the mode fallback for a while", modes::to_fallback_and_back),
    ("mappings in the mode fallback while tables are locked", modes::under_locks),
    ("mappings reloaded while a flush is held", reloads::under_a_flush),
    ("mappings reloaded while tables are locked", reloads::under_locks),
];

/// Any of the sidecars.
pub fn any_sidecar(dice: &mut Dice) -> usize {
    dice.roll(SIDECARS as u64) as usize
}

/// How long a fault lasts.
pub fn moment(dice: &mut Dice) -> Duration {
    Duration::from_millis(100 + dice.roll(900))
}

pub fn kill(attack: &Attack, dice: &mut Dice) {
    let i = any_sidecar(dice);
    attack.world.kill(i);
    thread::sleep(moment(dice));
    attack.world.start(i);
}

fn stop_postgres(attack: &Attack, dice: &mut Dice) {
    attack.world.postgres().stop();
    thread::sleep(moment(dice));
    attack.world.postgres().launch();
}

fn disturb_the_upstream(attack: &Attack, dice: &mut Dice) {
    let mut upstream = attack.world.upstream.lock().expect("a lock");
    if upstream.is_durable() {
        return upstream.disturb(dice);
    }
    attack.near.in_doubt(|| {
        upstream.disturb(dice);
        upstream.settled();
    });
}

pub fn cut(attack: &Attack, dice: &mut Dice) {
    attack.world.ways(any_sidecar(dice)).for_each(Proxy::cut);
}

pub fn silence(attack: &Attack, dice: &mut Dice) {
    let i = any_sidecar(dice);
    attack.world.ways(i).for_each(|proxy| proxy.hold(true));
    thread::sleep(moment(dice) + MAX_STALENESS);
    attack.world.ways(i).for_each(|proxy| proxy.hold(false));
}

pub fn slow_commits(attack: &Attack, dice: &mut Dice) {
    lock(attack, dice, "EXCLUSIVE");
}

fn lock(attack: &Attack, dice: &mut Dice, mode: &str) {
    let mut session = attack.world.postgres().session();
    session.run(&format!("BEGIN; LOCK TABLE things, fleeting, registers IN {mode} MODE;"));
    thread::sleep(moment(dice));
    session.run("COMMIT;");
}

pub fn update_all(attack: &Attack, _: &mut Dice) {
    let _away = attack.world.postgres().try_sql("UPDATE things SET other = other + 1");
}

/// Either way, and back.
fn step_the_clock(attack: &Attack, dice: &mut Dice) {
    let step = ["+0", "-240s", "+240s"][dice.roll(3) as usize];
    fs::write(attack.world.clock(any_sidecar(dice)), step).expect("written");
}

/// Holds the next flush of a sidecar until it has been given up and what came after it has been saved.
pub fn deliver_late(attack: &Attack, dice: &mut Dice) {
    held_flush(&attack.world, any_sidecar(dice), || thread::sleep(DEADLINE + moment(dice)));
}

/// Holds the next flush of a sidecar until that one was killed and started again, and what came after was saved.
pub fn deliver_late_after_a_kill(attack: &Attack, dice: &mut Dice) {
    let i = any_sidecar(dice);
    held_flush(&attack.world, i, || {
        // Before the kill its keys are often written again: the journal then holds nothing of it any more.
        thread::sleep(Duration::from_millis(dice.roll(2) * 1500));
        attack.world.kill(i);
        attack.world.start(i);
        thread::sleep(moment(dice));
    });
}

/// Holds the next flush of a sidecar for as long as `meanwhile` takes.
pub fn held_flush(world: &World, i: usize, meanwhile: impl FnOnce()) {
    let late = world.way_to_primary(i).trap("\"k\":[");
    let begun = Instant::now();
    while !late.has_caught() && begun.elapsed() < MAX_STALENESS {
        thread::sleep(Duration::from_millis(1));
    }
    meanwhile();
    late.release();
}

pub fn end_connections(attack: &Attack, _: &mut Dice) {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'";
    let _away = attack.world.postgres().try_sql(terminate);
}

/// While a standby that must confirm is away, a commit is in the log, and nobody sees its rows: those of all writers, and
/// then that of one key, which nobody else writes. What was loaded too early would show when it is older than the bound.
fn hold_commits(attack: &Attack, dice: &mut Dice) {
    let wait_for = |standby: &str| {
        attack.world.postgres().sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'"));
        attack.world.postgres().sql("SELECT pg_reload_conf()");
    };
    wait_for("nobody");
    thread::sleep(moment(dice));
    let key = dice.roll(KEYS as u64) as usize;
    attack.calmly(|| {
        thread::scope(|scope| {
            let writing = scope.spawn(|| things::write_by_sql(attack, key));
            thread::sleep(moment(dice));
            wait_for("");
            writing.join().expect("it has been answered");
        });
        thread::sleep(BOUND + Duration::from_millis(500));
    });
}
