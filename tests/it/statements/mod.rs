//! The SQL that Postgres is sent, byte for byte, as its own log shows it. Another driver, or another way to make the
//! statements, must not change a byte of them by accident: a change is read in `postgres.txt` before it is made.

use std::collections::BTreeSet;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{setting, until};

/// Who sends each line of the log.
const SENDER: &str = "-c log_statement=all -c log_line_prefix=%a=";

/// What is sent for these stands in the log; each is answered before the next is sent.
const REQUESTS: &str = "
HGETALL d:hash:a
HGETALL h:1
HGETALL u:00000000-0000-0000-0000-0000000000ff:data
HGETALL c:1
GET p:x:1
GET z:ended
MGET p:x:8 p:x:9
SMEMBERS t:1
LRANGE l:1 0 -1
HGETALL q:1
HSET h:1 name new
HSET h:1 name n hp 5 coins 1.5 is_on true likes [1] at 12.5 since 12.5
HSET h:2 word w
HSET h:2 word w other o
HDEL h:2 word
HDEL h:2 other name
HSETNX h:1 name n
HSETNX h:1 word w
HINCRBY h:1 hp 2
HINCRBY h:1 word2 2
HINCRBYFLOAT h:1 coins 0.5
HSET h:9 hp 1
HSET h:3 hp 1
DEL h:9
HSET u:00000000-0000-0000-0000-0000000000ff:data data e
HSET c:1 whole 1 part 2 exact 3 word 4 other 5
HINCRBY c:1 whole 1
HINCRBY c:1 part 1
HINCRBY c:1 word 1
HINCRBY c:1 other 1
HINCRBYFLOAT c:1 whole 1
HINCRBYFLOAT c:1 part 1.5
HINCRBYFLOAT c:1 word 1.5
HINCRBYFLOAT c:1 other 1.5
HDEL c:1 whole other
DEL c:1
SET z:new v
SET z:new w XX
SET z:new w NX
SET z:ended w
APPEND z:new x
INCR z:number
INCRBYFLOAT z:number 1.5
DEL z:new
SADD t:1 a b c
SREM t:1 a b
DEL t:1
RPUSH l:1 a b
LREM l:1 0 a
KEYS h:*
KEYS u:*
KEYS c:*
KEYS p:*
KEYS z:*
KEYS t:*
KEYS l:*
KEYS q:*
SCAN 0
MULTI
HSET h:1 hp 7
HSET h:2 hp x
HGET h:1 hp
EXEC
WATCH h:1
MULTI
HSET h:1 hp 8
EXEC
";

/// These are answered from the journal.
const DEFERRED: [&str; 6] =
    ["HSET h:1 seen 5", "HSET h:1 note x", "HSET h:2 seen 6 note y", "EXPIRE h:1 1000", "PERSIST h:1", "SET p:x:1 w"];

fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(include_str!("mappings.toml"));
    builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").set("STORE__SWEEP_INTERVAL", "50ms")
}

/// What the driver asks for itself, and statements with names that are drawn.
const LEFT_OUT: [&str; 4] = ["LISTEN ", "UNLISTEN ", "SELECT attrelid table_oid", "SELECT pg_type.oid"];

/// A sweep while the end of some key still waits to be saved, which may or may not happen.
fn is_sweep_beside_flush(sql: &str) -> bool {
    sql.starts_with("DELETE FROM ") && sql.contains(" IS NOT TRUE LIMIT ")
}

/// The statements of the sidecar in the server's log, each once.
fn statements(log: &str) -> BTreeSet<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            found.last_mut().into_iter().for_each(|statement| statement.push_str(&format!(" {}", more.trim())));
        } else {
            let told = line.strip_prefix("hearthside=LOG:  ");
            let sql = told.filter(|told| told.starts_with("execute ") || told.starts_with("statement: "));
            found.push(sql.and_then(|told| told.split_once(": ")).map(|(_, sql)| sql.to_owned()).unwrap_or_default());
        }
    }
    found.retain(|sql| !sql.is_empty() && LEFT_OUT.iter().all(|begin| !sql.starts_with(begin)));
    found.retain(|sql| !is_sweep_beside_flush(sql));
    found.into_iter().collect()
}

#[test]
fn postgres_is_sent_these_statements() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with(SENDER));
    postgres.sql(include_str!("postgres.sql"));
    let builder = builder(&redis, &postgres).migrated();
    let begin = postgres.log().len();
    let mut sidecar = builder.expect(&["ends", "since", "time zone"]).start();
    let mut wire = sidecar.wire();
    // What waits for a key may be part of the next statement.
    for request in REQUESTS.lines().filter(|request| !request.is_empty()).chain(DEFERRED) {
        wire.ask(request);
        until("it is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    }
    until("rows that have ended are swept", || metric(&sidecar, "hearthside_swept_total") > 0.0);
    assert_eq!(sidecar.stop(), Some(0));
    let sent = statements(&postgres.log()[begin..]);
    if setting("HEARTHSIDE_RECORD", 0) == 1 {
        let lines: String = sent.iter().map(|sql| format!("{sql}\n")).collect();
        std::fs::write("tests/it/statements/postgres.txt", lines).expect("written");
        return;
    }
    let known: BTreeSet<String> = include_str!("postgres.txt").lines().map(str::to_owned).collect();
    let (missing, new): (Vec<_>, Vec<_>) = (known.difference(&sent).collect(), sent.difference(&known).collect());
    assert!(
        missing.is_empty() && new.is_empty(),
        "not sent any more: {missing:#?}\nsent now: {new:#?}\nif that is meant: HEARTHSIDE_RECORD=1"
    );
}
