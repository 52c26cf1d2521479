//! Writes that ask the store something more behind their statement, while somebody waits to lock the table: what has
//! been written by then is shown, and no reply says that nothing was.

use std::thread;

use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const CONFIG: &str = r#"
[[caches]]
key = "t:{id:int}"
type = "set"
table = "members"
value = "v"
write = "through"
delete = "row"
"#;

const TABLES: &str = "CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (id, v)); \
    INSERT INTO members VALUES (1, 'a'), (1, 'b');";

/// A sidecar whose statements are given up after five seconds, that has the set of key 1 in memory.
struct Scene {
    wire: Wire,
    sidecar: Sidecar,
    postgres: Postgres,
    _redis: Redis,
}

impl Scene {
    fn new() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        postgres.sql(TABLES);
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
        let trouble = [warnings::WRITE_FAILED, warnings::LOAD_FAILED, warnings::UNFIT];
        let sidecar = builder.set("STORE__QUERY_TIMEOUT", "5s").expect(&trouble).start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("SMEMBERS t:1"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        Self { wire, sidecar, postgres, _redis: redis }
    }

    fn until_waiting(&self, count: u32) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("statements wait for a lock", || self.postgres.sql(waiting) == count.to_string());
    }

    /// The reply to a write that first waits for what `held` does, and behind which somebody then queues who runs
    /// `queued`: that has run when this returns, in a transaction that is still open.
    fn overtaken(&mut self, write: &str, held: &str, ends: &str, queued: &str) -> (String, Session) {
        let mut holder = self.postgres.session();
        holder.run(&format!("BEGIN; {held};"));
        self.wire.send(&line(write));
        self.until_waiting(1);
        let (mut queuer, queued) = (self.postgres.session(), format!("BEGIN; {queued};"));
        let queuing = thread::spawn(move || {
            queuer.run(&queued);
            queuer
        });
        self.until_waiting(2);
        holder.run(&format!("{ends};"));
        let told = String::from_utf8_lossy(&self.wire.frame()).into_owned();
        (told, queuing.join().expect("it has its lock"))
    }

    fn members(&mut self) -> String {
        self.wire.ask("SMEMBERS t:1").replace("\r\n", " ")
    }
}

const LOCK: &str = "LOCK TABLE members IN ACCESS EXCLUSIVE MODE";

#[test]
fn what_a_write_of_members_did_is_counted_by_its_own_statement() {
    let insert = "INSERT INTO members VALUES (1, 'new')";
    let share = "SELECT FROM members WHERE id = 1 FOR UPDATE";
    for (write, held, told, left) in [
        ("SADD t:1 a new", insert, ":1\r\n", "*3 $1 a $1 b $3 new "),
        ("SREM t:1 a none", share, ":1\r\n", "*1 $1 b "),
        ("DEL t:1", share, ":1\r\n", "*0 "),
    ] {
        for queued in [LOCK, "ALTER TABLE members ALTER COLUMN v TYPE varchar(50)"] {
            let mut scene = Scene::new();
            let (reply, mut queuer) = scene.overtaken(write, held, "ROLLBACK", queued);
            assert_eq!(reply, told, "{write} before {queued}");
            queuer.run("COMMIT;");
            until("what was written is shown", || scene.members() == left);
        }
    }
}

#[test]
fn a_write_that_is_done_in_part_when_its_check_fails_may_have_been_applied() {
    for (write, held, left) in [
        ("SADD t:1 a new other", "INSERT INTO members VALUES (1, 'new')", "*4 $1 a $1 b $3 new $5 other "),
        ("SREM t:1 a b", "DELETE FROM members WHERE v = 'a'", "*0 "),
        ("DEL t:1", "DELETE FROM members WHERE v = 'a'", "*0 "),
    ] {
        let mut scene = Scene::new();
        let (reply, mut queuer) = scene.overtaken(write, held, "COMMIT", LOCK);
        assert!(reply.contains("may have been applied"), "{write}: {reply}");
        queuer.run("COMMIT;");
        until("what was written is shown", || scene.members() == left);
        assert_eq!(scene.sidecar.wire().ask("PING"), "+PONG\r\n");
    }
}
