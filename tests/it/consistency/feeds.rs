//! The change feed that a run is about (`HEARTHSIDE_FEED`), and what can go wrong with what is installed for it.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::deck::Kind;
use super::faults::moment;
use super::schema_changes::{any_table, disable_triggers, drop_triggers, for_a_moment, untold};
use super::world::MAX_STALENESS;
use super::{Attack, faults};
use crate::differential::stream::Dice;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    Notify,
    Outbox,
    Replication,
}

const OF_NOTIFY: &[Kind<Attack>] =
    &[("change triggers disabled", disable_triggers), ("change triggers dropped", drop_triggers)];

const OF_OUTBOX: &[Kind<Attack>] = &[
    ("change triggers disabled", disable_triggers),
    ("change triggers dropped", drop_triggers),
    ("the readers of the outbox ended", end_readers),
    ("the outbox emptied of all that was committed", empty),
];

const OF_REPLICATION: &[Kind<Attack>] = &[
    ("walsenders ended, and their slots with them", end_walsenders),
    ("the publication dropped", drop_publication),
    ("a table taken out of the publication", take_out),
    ("a publication that does not tell updates", tell_no_updates),
];

impl Feed {
    /// The one that the environment names.
    pub fn wanted() -> Self {
        match std::env::var("HEARTHSIDE_FEED").as_deref() {
            Err(_) | Ok("notify") => Self::Notify,
            Ok("outbox") => Self::Outbox,
            Ok("replication") => Self::Replication,
            Ok(other) => panic!("HEARTHSIDE_FEED is notify, outbox or replication, not {other}"),
        }
    }

    /// As `store.feed` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Outbox => "outbox",
            Self::Replication => "replication",
        }
    }

    /// What Postgres is started with for it.
    pub const fn options(self) -> &'static str {
        match self {
            Self::Notify | Self::Outbox => "",
            Self::Replication => "-c wal_level=logical",
        }
    }

    /// Everything that goes wrong.
    pub fn faults(self) -> Vec<Kind<Attack>> {
        let own = match self {
            Self::Notify => OF_NOTIFY,
            Self::Outbox => OF_OUTBOX,
            Self::Replication => OF_REPLICATION,
        };
        [faults::KINDS, own].concat()
    }
}

/// SIGSTOP to the server's processes that serve change feeds, and SIGCONT.
pub fn freeze(attack: &Attack, dice: &mut Dice) {
    let serving = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
         OR query LIKE '%hearthside.outbox_0%' AND application_name = 'hearthside' OR backend_type = 'walsender' AND pid IN \
         (SELECT active_pid FROM pg_replication_slots)";
    let pids = attack.world.postgres().try_sql(serving).unwrap_or_default();
    let signal = |name: &str| {
        for pid in pids.lines() {
            // It may have ended meanwhile.
            let _ended = Command::new("kill").args([name, pid]).stderr(Stdio::null()).status();
        }
    };
    signal("-STOP");
    thread::sleep(moment(dice) + MAX_STALENESS);
    signal("-CONT");
}

/// As if another sidecar read the outbox, again and again for a moment, whatever the others find to be much: triggers add
/// rows meanwhile. What it has read for a while is emptied.
pub fn read_now_and_then(attack: &Attack, mut dice: Dice) {
    while !attack.is_over() {
        let mut session = attack.world.postgres().session();
        while !attack.is_over() && session.try_run("SELECT pg_advisory_lock(1212498258, 1414025033);") {
            session.try_run("NOTIFY hearthside_outbox, 'awake';");
            session.try_run("SELECT pg_current_snapshot() AS seen \\gset");
            thread::sleep(Duration::from_millis(dice.roll(3000)));
            session.try_run(&format!("SELECT hearthside.clean_outbox(:'seen', {});", dice.roll(3)));
            session.try_run("SELECT pg_advisory_unlock(1212498258, 1414025033);");
            thread::sleep(Duration::from_millis(dice.roll(2000)));
        }
        // The server is away.
        thread::sleep(Duration::from_millis(50));
    }
}

fn end_readers(attack: &Attack, _: &mut Dice) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%hearthside.outbox_0%' \
         AND application_name = 'hearthside'";
    let _away = attack.world.postgres().try_sql(end);
}

/// Whoever has not read it must find out.
fn empty(attack: &Attack, _: &mut Dice) {
    for table in 0..3 {
        let clean = format!("SELECT hearthside.clean_outbox(pg_current_snapshot(), {table})");
        let _away = attack.world.postgres().try_sql(&clean);
    }
}

fn end_walsenders(attack: &Attack, _: &mut Dice) {
    let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots";
    let _away = attack.world.postgres().try_sql(end);
}

fn drop_publication(attack: &Attack, dice: &mut Dice) {
    let drop_it = || drop(attack.world.postgres().sql("DROP PUBLICATION hearthside"));
    untold(attack, dice, drop_it, || attack.world.install_triggers());
}

fn take_out(attack: &Attack, dice: &mut Dice) {
    let take = format!("ALTER PUBLICATION hearthside DROP TABLE {}", any_table(dice));
    untold(attack, dice, || drop(attack.world.postgres().sql(&take)), || attack.world.install_triggers());
}

/// Often for less time than there is between two looks at the schema.
fn tell_no_updates(attack: &Attack, dice: &mut Dice) {
    let tell = |what: &str| format!("ALTER PUBLICATION hearthside SET (publish = '{what}')");
    for_a_moment(attack, dice, &tell("insert, delete, truncate"), &tell("insert, update, delete, truncate"));
}
