//! Changes by the outbox: notices while little changes, rows that are read while much does, and the way between both.

mod commands;
mod feed;
mod handover;
mod told;

use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 20) i";

/// The lock of whoever reads.
const LOCK: &str = "1212498258, 1414025033";

/// Whether somebody has it.
const IS_READ: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1212498258 \
    AND objid = 1414025033 AND mode = 'ExclusiveLock' AND granted";

/// Rows of all tables.
const ROWS: &str = "SELECT (SELECT count(*) FROM hearthside.outbox_0) + (SELECT count(*) FROM hearthside.outbox_1) \
    + (SELECT count(*) FROM hearthside.outbox_2)";

/// One mapping: `t:{id:int}`.
const MAPPING: &str =
    "[[caches]]\nkey = \"t:{id:int}\"\ntype = \"hash\"\ntable = \"t\"\nwrite = \"through\"\nttl = \"1h\"\n";

/// A sidecar's configuration over this Postgres, with its triggers. Nothing but the feed ends what is remembered.
fn over(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config).set("STORE__FEED", "outbox");
    builder.set("CACHE__NEGATIVE_TTL", "1h").set("CACHE__MAX_STALENESS", "1h").migrated()
}

/// Another sidecar that reads, as far as triggers and the others see.
struct Reads(Session);

impl Reads {
    fn begin(postgres: &Postgres) -> Self {
        let mut session = postgres.session();
        session.run(&format!("SELECT pg_advisory_lock({LOCK});"));
        session.run("NOTIFY hearthside_outbox, 'awake';");
        Self(session)
    }

    fn end(&mut self) {
        self.0.run(&format!("SELECT pg_advisory_unlock({LOCK});"));
    }
}

/// Waits until a request is answered so.
fn shows(wire: &mut Wire, request: &str, reply: &str) {
    until(&format!("{request} is answered {reply:?}"), || wire.ask(request) == reply);
}

/// The bulk reply of a text.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
