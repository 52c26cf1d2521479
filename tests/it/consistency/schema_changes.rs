//! Tables that change under the sidecars: columns, types and names, a table in the place of another, and triggers that
//! are missing. Each change is taken back, or mended, before the next fault.

use std::thread;
use std::time::Duration;

use super::faults::moment;
use super::world::COMMON_TABLES;
use super::{Attack, BOUND};
use crate::differential::stream::Dice;

/// Changes the schema, and changes it back a moment later.
pub fn for_a_moment(attack: &Attack, dice: &mut Dice, change: &str, back: &str) {
    let postgres = &attack.world.postgres();
    untold(attack, dice, || drop(postgres.sql(change)), || drop(postgres.sql(back)));
}

/// Makes a change, and a moment later what ends it. What the verifier finds meanwhile is no fault: until the sidecars
/// have looked at the schema, what they show may be what was right before it. Then nobody writes, so that what they
/// have missed would show.
pub fn untold(attack: &Attack, dice: &mut Dice, change: impl FnOnce(), end: impl FnOnce()) {
    attack.world.is_untold(|| {
        change();
        thread::sleep(moment(dice));
        end();
        attack.calmly(|| thread::sleep(BOUND + Duration::from_millis(500)));
    });
}

pub fn any_table(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&COMMON_TABLES)
}

pub fn add_and_drop(attack: &Attack, dice: &mut Dice) {
    let table = any_table(dice);
    let change = format!("ALTER TABLE {table} ADD COLUMN extra BIGINT DEFAULT 7");
    for_a_moment(attack, dice, &change, &format!("ALTER TABLE {table} DROP COLUMN extra"));
}

/// Of columns that are written and read all the time.
pub fn retype(attack: &Attack, dice: &mut Dice) {
    let (table, kind) = (any_table(dice), *dice.pick(&["INT", "NUMERIC", "TEXT"]));
    let column = if table == "fleeting" { "v" } else { *dice.pick(&["v", "d"]) };
    let change = format!("ALTER TABLE {table} ALTER {column} TYPE {kind}");
    let back = format!("ALTER TABLE {table} ALTER {column} TYPE BIGINT USING {column}::bigint");
    for_a_moment(attack, dice, &change, &back);
}

/// Of a column that is shown, and of one that is not.
pub fn rename(attack: &Attack, dice: &mut Dice) {
    let renamed = |table: &str, from: &str, to: &str| format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to};");
    let change = renamed("things", "other", "another") + &renamed("fleeting", "remark", "note");
    let back = renamed("things", "another", "other") + &renamed("fleeting", "note", "remark");
    for_a_moment(attack, dice, &change, &back);
}

/// The copy has no triggers until they are installed again.
pub fn swap(attack: &Attack, dice: &mut Dice) {
    let table = *dice.pick(&["things", "registers"]);
    let replace = || {
        attack.world.postgres().sql(&format!(
            "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; CREATE TABLE copied (LIKE {table} INCLUDING ALL); \
             INSERT INTO copied SELECT * FROM {table}; DROP TABLE {table}; ALTER TABLE copied RENAME TO {table}; COMMIT"
        ));
    };
    untold(attack, dice, replace, || attack.world.install_triggers());
}

/// Often for less time than there is between two looks at the schema.
pub fn disable_triggers(attack: &Attack, dice: &mut Dice) {
    let table = any_table(dice);
    let change = format!("ALTER TABLE {table} DISABLE TRIGGER USER");
    for_a_moment(attack, dice, &change, &format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
}

pub fn drop_triggers(attack: &Attack, dice: &mut Dice) {
    let table = any_table(dice);
    let remove = || {
        attack.world.postgres().sql(&format!(
            "DO $$ DECLARE name text; BEGIN \
             FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal \
             LOOP EXECUTE format('DROP TRIGGER %I ON {table}', name); END LOOP; END $$"
        ));
    };
    untold(attack, dice, remove, || attack.world.install_triggers());
}
