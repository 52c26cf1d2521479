//! A flush that is committed is settled: what cannot be asked about it afterwards does not bring it back over newer
//! values of others.

use std::thread;

use super::place::{Place, until_saved};
use crate::support::admin::metric;
use crate::support::postgres::Session;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

/// The row of key 5 goes, and the sidecar is not told.
const GONE: &str = "SET session_replication_role = replica; DELETE FROM players WHERE id = 5";

/// The row of key 5 stays as it is, whatever is written.
const KEPT: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
    CREATE TRIGGER keep BEFORE UPDATE ON players FOR EACH ROW WHEN (OLD.id = 5) EXECUTE FUNCTION keep()";

const LOCK: &str = "LOCK TABLE players IN ACCESS EXCLUSIVE MODE";
const MIGRATION: &str = "ALTER TABLE players DROP COLUMN mood";

const TROUBLE: &[&str] =
    &[warnings::PUT_ASIDE, warnings::NO_ROW, warnings::UNFIT, warnings::LOAD_FAILED, warnings::DEFERRED_WAIT];

/// Flushes keys 1 and 5 in one batch, the row of 5 being `made` like this; when it is committed, somebody has the table
/// for whom it is `locked`, and who has written a newer value of key 1.
fn overtaken(place: &Place, made: &str, locked: &'static str) -> (Sidecar, Session) {
    let sidecar = place.builder("1s").set("STORE__QUERY_TIMEOUT", "5s").expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    for key in ["p:1", "p:5"] {
        assert_eq!(wire.ask(&format!("HGET {key} seen")), "$1\r\n0\r\n");
    }
    place.postgres.sql(made);
    let mut holder = place.lock_first();
    wire.send(&[line("HSET p:5 seen 20"), line("HSET p:1 seen 20")].concat());
    assert_eq!([wire.frame(), wire.frame()], [b":0\r\n", b":0\r\n"]);
    place.until_locked_out(1);
    let mut queuer = place.postgres.session();
    let queuing = thread::spawn(move || {
        queuer.run(&format!("BEGIN; {locked}; UPDATE players SET seen = 300 WHERE id = 1;"));
        queuer
    });
    place.until_locked_out(2);
    holder.run("ROLLBACK;");
    (sidecar, queuing.join().expect("it has its lock"))
}

#[test]
fn a_flush_that_is_committed_is_never_sent_again() {
    for (made, locked, aside) in [(GONE, LOCK, 0.0), (GONE, MIGRATION, 0.0), (KEPT, LOCK, 1.0), (KEPT, MIGRATION, 1.0)]
    {
        let place = Place::new();
        let (sidecar, mut queuer) = overtaken(&place, made, locked);
        if locked == MIGRATION {
            queuer.run("COMMIT;");
        }
        let waits = || metric(&sidecar, "hearthside_journal_bytes") > 0.0;
        until("the batch is settled", || !waits() || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
        queuer.run("COMMIT;");
        if aside == 0.0 {
            until_saved(&sidecar);
        }
        assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), aside, "{made}, {locked}");
        assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
        let mut wire = sidecar.wire();
        until("the newer value is shown", || wire.ask("HGET p:1 seen") == "$3\r\n300\r\n");
        assert_eq!(place.seen(1), "300", "{made}, {locked}");
    }
}
