//! A deferred value that the store has is laid over nothing newer: neither over what was read while it was saved, nor
//! over what was read before that was known.

use super::place::until_saved;
use crate::support::admin::metric;
use crate::support::postgres::{Postgres, Session};
use crate::support::proxy::{Proxy, Trapped};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const CONFIG: &str = r#"
[[caches]]
key = "k:{name}"
type = "hash"
table = "t"
write = "deferred"
"#;

const INVALIDATIONS: &str = "hearthside_invalidations_total{reason=\"change\"}";

/// The row of `other` stays as it is, whatever is written.
const KEPT: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
    CREATE TRIGGER keep BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.name = 'other') EXECUTE FUNCTION keep()";

/// The name of the row as a parameter, behind its length: the word of an INVALIDATE to other sidecars has the key, too.
const NAME_OF_ONE: &str = "\0\0\0\u{3}one";

struct Scene {
    wire: Wire,
    sidecar: Sidecar,
    proxy: Proxy,
    postgres: Postgres,
    _others: (Redis, tempfile::TempDir),
}

impl Scene {
    fn new() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        postgres.sql("CREATE TABLE t (name TEXT PRIMARY KEY, v BIGINT); INSERT INTO t VALUES ('one', 0), ('other', 0)");
        let (proxy, folder) = (Proxy::to(postgres.port), tempfile::tempdir().expect("a folder"));
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
        let builder = builder.set("STORE__URL", postgres.url_at(proxy.port)).set("JOURNAL__FLUSH_INTERVAL", "20ms");
        let journal = folder.path().join("journal.db").display().to_string();
        let sidecar = builder.set("JOURNAL__PATH", journal).expect(&[warnings::PUT_ASIDE]).start();
        let wire = sidecar.wire();
        Self { wire, sidecar, proxy, postgres, _others: (redis, folder) }
    }

    /// Sends these writes, all in one flush, which waits for the row of `one`.
    fn deferred(&mut self, writes: &[&str]) -> Session {
        let mut lock = self.postgres.session();
        lock.run("BEGIN; UPDATE t SET v = v WHERE name = 'one';");
        self.wire.send(&writes.iter().flat_map(|write| line(write)).collect::<Vec<u8>>());
        writes.iter().for_each(|_| assert_eq!(self.wire.frame(), b":0\r\n"));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("the flush waits", || self.postgres.sql(waiting) == "1");
        lock
    }

    fn until_caught(trapped: &Trapped) {
        until("it is on its way", || trapped.has_caught());
    }

    /// Somebody else's value, of which the sidecar has been told.
    fn write_by_sql(&self) {
        let before = metric(&self.sidecar, INVALIDATIONS);
        self.postgres.sql("UPDATE t SET v = 100 WHERE name = 'one'");
        until("the notice has come", || metric(&self.sidecar, INVALIDATIONS) > before);
    }
}

#[test]
fn an_increment_counts_what_others_wrote_over_what_was_saved_while_its_record_was_read() {
    let mut scene = Scene::new();
    assert_eq!(scene.wire.ask("HGET k:one v"), "$1\r\n0\r\n");
    let mut lock = scene.deferred(&["HSET k:one v 5"]);
    scene.wire.ask("HEARTHSIDE INVALIDATE k:one");
    let read = scene.proxy.trap(NAME_OF_ONE);
    scene.wire.send(&line("HINCRBY k:one v 1"));
    Scene::until_caught(&read);
    lock.run("ROLLBACK;");
    until_saved(&scene.sidecar);
    scene.postgres.sql("UPDATE t SET v = 100 WHERE name = 'one'");
    read.release();
    assert_eq!(scene.wire.frame(), b":101\r\n");
    until_saved(&scene.sidecar);
    assert_eq!(scene.postgres.sql("SELECT v FROM t WHERE name = 'one'"), "101");
}

#[test]
fn what_others_wrote_is_shown_when_it_is_known_that_a_value_was_saved_before() {
    let mut scene = Scene::new();
    for key in ["k:one", "k:other"] {
        assert_eq!(scene.wire.ask(&format!("HGET {key} v")), "$1\r\n0\r\n");
    }
    // Behind the flush it is asked whether this row is there.
    scene.postgres.sql(KEPT);
    let mut lock = scene.deferred(&["HSET k:one v 5", "HSET k:other v 5"]);
    let answer = scene.proxy.trap("other");
    lock.run("ROLLBACK;");
    Scene::until_caught(&answer);
    scene.write_by_sql();
    // Until the answer to the flush has come, the sidecar's own value may be shown.
    scene.wire.ask("HGET k:one v");
    answer.release();
    until("both are settled", || metric(&scene.sidecar, "hearthside_deferred_keys") == 0.0);
    assert_eq!(scene.wire.ask("HGET k:one v"), "$3\r\n100\r\n");
}
