//! The model of owned keys is Redis: the same random commands to owned keys through a sidecar and to plain keys of a
//! Redis, replies compared byte for byte. HEARTHSIDE_WRITES and HEARTHSIDE_SEED make the run longer, or another.
//!
//! A quarter of the batches are transactions.
//!
//! The documented differences, all of them:
//! - a hash's fields and a set's members come in the store's order, Redis's is its own: compared as parts;
//! - a float's sum is exact in decimal, Redis's long double is not always: fractions here are sums of halves;
//! - INCRBYFLOAT by an infinity is refused before the value is looked at;
//! - without an expires column a time to live is that of the record in memory: NX, XX, GT and LT ask about that;
//! - a command that would make a key of another type is refused, for a mapping makes keys of its own type only.

use hearthside::resp::reply::elements;

use crate::differential::stream::{Command, Compare, Dice, Template, templates};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::setting;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::Wire;

const COMMANDS: &str = include_str!("model.txt");

/// A hash and a string whose keys end by a column of their row.
pub const ENDING: &str = r#"
[[caches]]
key = "h:{id:int}"
type = "hash"
table = "hashes"
overflow = "more"
expires_column = "ends"
write = "through"
delete = "row"

[[caches]]
key = "s:{id}"
type = "string"
table = "strings"
value = "v"
expires_column = "ends"
write = "through"
delete = "row"
"#;

const OTHERS: &str = r#"
[[caches]]
key = "t:{id:int}"
type = "set"
table = "members"
value = "v"
write = "through"
delete = "row"

[[caches]]
key = "l:{id:int}"
type = "list"
query = "SELECT v FROM elements WHERE id = $1 ORDER BY place"
value = "v"
watch = [{ table = "elements" }]
write = "through"
"#;

const PUSH: &str = "push = \"INSERT INTO elements (id, v) VALUES ($1, $2::text)\"\n\
    remove = \"DELETE FROM elements WHERE place IN (SELECT place FROM elements WHERE id = $1 AND v = $2::text \
    ORDER BY CASE WHEN $3::bigint < 0 THEN -place ELSE place END LIMIT nullif(abs($3::bigint), 0))\"\n";

const TABLES: &str = "CREATE TABLE hashes (id BIGINT PRIMARY KEY, f TEXT, g TEXT, n BIGINT, more JSONB, ends \
    TIMESTAMP);\
    CREATE TABLE strings (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMP);\
    CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (v, id));\
    CREATE TABLE elements (place BIGSERIAL PRIMARY KEY, id BIGINT, v TEXT);";

pub fn config() -> String {
    format!("{ENDING}{OTHERS}{PUSH}")
}

pub fn on_postgres(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(TABLES);
    Sidecar::builder().redis(redis).postgres(postgres).config(&config()).migrated()
}

pub fn on_sqlite(redis: &Redis) -> (Builder, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.db");
    let push =
        PUSH.replace("::text", "").replace("::bigint", "").replace("nullif(abs($3), 0)", "iif($3 = 0, -1, abs($3))");
    let tables =
        TABLES.replace("BIGSERIAL", "INTEGER").replace("JSONB", "JSON").replace("BIGINT PRIMARY", "INTEGER PRIMARY");
    let made = std::process::Command::new("sqlite3").arg(&file).arg(tables).status().expect("sqlite3 is installed");
    assert!(made.success());
    let builder = Sidecar::builder().redis(redis).config(&format!("{ENDING}{OTHERS}{push}"));
    (builder.set("STORE__URL", format!("sqlite://{}", file.display())), folder)
}

fn held_against_redis(sidecar: &Sidecar, twin: &Redis) {
    let (seed, total) = (setting("HEARTHSIDE_SEED", 0x5eed_0004), setting("HEARTHSIDE_WRITES", 4000));
    eprintln!("model: HEARTHSIDE_SEED={seed}");
    let (mut dice, all) = (Dice(seed), templates(COMMANDS));
    let mut done = 0;
    while done < total {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        if dice.roll(2) == 0 {
            through.ask("HELLO 3");
            direct.ask("HELLO 3");
        }
        for _ in 0..20 {
            let mut batch: Vec<Command> = (0..=dice.roll(12)).map(|_| pick(&mut dice, &all)).collect();
            if dice.roll(4) == 0 {
                batch.insert(0, Command::named("MULTI"));
                batch.push(Command::named("EXEC"));
            }
            compare(&mut dice, &batch, &mut through, &mut direct);
            done += batch.len() as u64;
        }
    }
}

fn pick(dice: &mut Dice, all: &[Template]) -> Command {
    let template = *dice.pick(all);
    template.fill(dice)
}

fn compare(dice: &mut Dice, batch: &[Command], through: &mut Wire, direct: &mut Wire) {
    let bytes: Vec<u8> = batch.iter().flat_map(|command| command.encode(dice)).collect();
    through.send(&bytes);
    direct.send(&bytes);
    let mut is_queued = false;
    for command in batch {
        is_queued = is_queued || command.text() == "MULTI";
        let (ours, theirs) = (through.frame(), direct.frame());
        let alike = match command.compare {
            _ if command.text() == "EXEC" => elements_alike(batch, &ours, &theirs),
            _ if is_queued => ours == theirs,
            Compare::Exact => ours == theirs,
            Compare::Unordered | Compare::Kind => {
                crate::differential::parts(&ours) == crate::differential::parts(&theirs)
            }
        };
        let (ours, theirs) = (String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
        let told = || batch.iter().map(Command::text).collect::<Vec<_>>().join("\n");
        assert!(alike, "{}\nours:   {ours}\ntheirs: {theirs}\nin\n{}", command.text(), told());
    }
}

/// The replies of EXEC, each compared as its command is.
fn elements_alike(batch: &[Command], ours: &[u8], theirs: &[u8]) -> bool {
    let (Some(a), Some(b)) = (elements(ours), elements(theirs)) else { return ours == theirs };
    let commands = batch[1..batch.len() - 1].iter();
    a.len() == b.len()
        && a.iter().zip(&b).zip(commands).all(|((a, b), command)| match command.compare {
            Compare::Exact => a == b,
            _ => crate::differential::parts(a) == crate::differential::parts(b),
        })
}

#[test]
fn owned_keys_in_postgres_answer_as_plain_keys() {
    let (redis, twin, postgres) = (Redis::start(), Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    held_against_redis(&sidecar, &twin);
    let mut upstream = redis.wire();
    assert_eq!(upstream.ask("DBSIZE"), ":0\r\n", "an owned key went upstream");
}

#[test]
fn deferred_keys_in_postgres_answer_as_plain_keys() {
    let (redis, twin, postgres) = (Redis::start(), Redis::start(), Postgres::start());
    let deferred = config().replacen("write = \"through\"", "write = \"deferred\"", 2);
    let sidecar = on_postgres(&redis, &postgres).config(&deferred).start();
    held_against_redis(&sidecar, &twin);
}

#[test]
fn owned_keys_in_sqlite_answer_as_plain_keys() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let (builder, _folder) = on_sqlite(&redis);
    held_against_redis(&builder.start(), &twin);
}
