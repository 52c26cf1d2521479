//! A standby that lacks what its primary had confirmed, and is promoted: what was deferred goes on, and nothing of the
//! journal is taken for something else.

use super::{Pair, is_whole, seen};
use crate::support::until;
use crate::support::warnings;

/// The standby is sent nothing more.
fn cut_off(pair: &Pair) {
    pair.standby.catch_up_with(&pair.primary);
    pair.standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
    pair.standby.sql("SELECT pg_reload_conf()");
    until("nobody follows", || pair.primary.sql("SELECT count(*) FROM pg_stat_replication") == "0");
}

fn goes_on(was_noted: bool) {
    let pair = Pair::new("notify");
    let sidecar = pair.over(pair.primary.port).expect(&[warnings::NOTE_GONE]).start();
    let mut wire = sidecar.wire();
    if was_noted {
        wire.ask("HSET p:1 seen 1");
        until("it is saved", || seen(&pair.primary, 1) == "1");
    }
    cut_off(&pair);
    for value in 2..5 {
        wire.ask(&format!("HSET p:1 seen {value}"));
        until("it is saved", || seen(&pair.primary, 1) == value.to_string());
    }
    pair.primary.stop();
    let reply = wire.ask("HSET p:2 seen 7");
    assert!(reply.starts_with(':'), "it is acknowledged into the journal: {reply}");
    pair.standby.promote();
    is_whole(&sidecar, &pair.standby);
    let was = if was_noted { "1" } else { "0" };
    assert_eq!((seen(&pair.standby, 1).as_str(), seen(&pair.standby, 2).as_str()), (was, "7"));
    assert_eq!(wire.ask("HGET p:1 seen"), format!("$1\r\n{was}\r\n"), "memory holds what the store holds");
    wire.ask("HSET p:1 seen 9");
    until("it is saved", || seen(&pair.standby, 1) == "9");
}

#[test]
fn a_journal_goes_on_over_a_server_whose_notes_are_older() {
    goes_on(true);
}

#[test]
fn a_journal_goes_on_over_a_server_that_has_no_note_of_it() {
    goes_on(false);
}
