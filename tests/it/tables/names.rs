//! Tables and columns that are called like what stands in the statements of the sidecar: they are written, shown and
//! told like any other.

use super::ends::sqlite;
use super::{check, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::Wire;
use crate::support::{until, warnings};

/// Aliases, functions, variables and other words of the statements and triggers for both stores.
const NAMES: &str = "b before changed e excluded f fence found gone held hearthside_row json k key m made moved n new \
    old one origin page q r rowid seen t there v value";

/// Which table of a name has the name itself: that of the hash, or that of the set.
#[derive(Clone, Copy, PartialEq)]
enum Bare {
    Hash,
    Set,
}

impl Bare {
    fn hash(self, name: &str) -> String {
        if self == Self::Hash { name.to_owned() } else { format!("h_{name}") }
    }

    fn set(self, name: &str) -> String {
        if self == Self::Set { name.to_owned() } else { format!("s_{name}") }
    }

    /// Four tables for each name, with a column of this name, which is another thing each time.
    fn tables(self, time: &str) -> String {
        let of = |name: &str| {
            let (hash, set) = (self.hash(name), self.set(name));
            format!(
                "CREATE TABLE \"{hash}\" (id INTEGER PRIMARY KEY, \"{name}\" TEXT, late TEXT, ends {time}); \
                 CREATE TABLE \"{set}\" (id INTEGER, \"{name}\" TEXT, PRIMARY KEY (id, \"{name}\")); \
                 CREATE TABLE \"k_{name}\" (\"{name}\" TEXT PRIMARY KEY, hp TEXT); \
                 CREATE TABLE \"e_{name}\" (id INTEGER PRIMARY KEY, hp TEXT, \"{name}\" {time}); "
            )
        };
        NAMES.split_whitespace().map(of).collect()
    }

    /// The mappings; `quote` says how the store's tables are named.
    fn config(self, quote: fn(&str) -> String) -> String {
        let block = |kind: &str, table: &str, more: &str| {
            let table = quote(table);
            format!("[[caches]]\nkey = '{kind}'\ntable = '{table}'\nwrite = 'through'\ndelete = 'row'\n{more}\n\n")
        };
        let of = |name: &str| {
            let late = "type = 'hash'\ndeferred = ['late']\nexpires_column = 'ends'";
            let member = format!("type = 'set'\nvalue = '{name}'");
            let key = format!("type = 'hash'\nkey_columns = {{ x = '{name}' }}");
            let ends = format!("type = 'hash'\nexpires_column = '{name}'");
            block(&format!("h.{name}:{{id:int}}"), &self.hash(name), late)
                + &block(&format!("s.{name}:{{id:int}}"), &self.set(name), &member)
                + &block(&format!("k.{name}:{{x}}"), &format!("k_{name}"), &key)
                + &block(&format!("e.{name}:{{id:int}}"), &format!("e_{name}"), &ends)
        };
        NAMES.split_whitespace().map(of).collect()
    }
}

/// Everything that is not answered like this for some name.
struct Differences {
    wire: Wire,
    found: Vec<String>,
}

impl Differences {
    fn expect(&mut self, name: &str, asked: &[(&str, &str)]) {
        for (command, answer) in asked {
            let command = command.replace('#', name);
            let told = self.wire.ask(&command).replace("\r\n", " ");
            if told.trim_end() != *answer {
                self.found.push(format!("{command}: {told}"));
            }
        }
    }
}

/// Writes and reads each table; `sql` is what somebody else does.
fn all_are_written_and_told(bare: Bare, sidecar: &Sidecar, sql: impl Fn(&str) -> String) {
    let mut differences = Differences { wire: sidecar.wire(), found: Vec::new() };
    for name in NAMES.split_whitespace() {
        differences.expect(
            name,
            &[
                ("HSET h.#:1 # 1", ":1"),
                ("HSET h.#:1 # 2", ":0"),
                ("HGET h.#:1 #", "$1 2"),
                ("HSET h.#:1 late 9", ":1"),
                ("EXPIRE h.#:1 1000", ":1"),
                ("SADD s.#:1 a b", ":2"),
                ("SADD s.#:1 b c", ":1"),
                ("SMEMBERS s.#:1", "*3 $1 a $1 b $1 c"),
                ("SREM s.#:1 a", ":1"),
                ("HSET k.#:x hp 1", ":1"),
                ("HSET k.#:x hp 2", ":0"),
                ("HSET e.#:1 hp 1", ":1"),
                ("EXPIRE e.#:1 1000", ":1"),
            ],
        );
    }
    for name in NAMES.split_whitespace() {
        let hash = bare.hash(name);
        let late = format!("SELECT count(*) FROM \"{hash}\" WHERE late = '9' AND ends IS NOT NULL");
        until(&format!("the deferred value beside {name} is saved"), || sql(&late) == "1");
        sql(&format!("UPDATE \"{hash}\" SET \"{name}\" = 'sql'; UPDATE \"k_{name}\" SET hp = 'sql'"));
    }
    for name in NAMES.split_whitespace() {
        let wire = &mut differences.wire;
        for key in [format!("HGET h.{name}:1 {name}"), format!("HGET k.{name}:x hp")] {
            until(&format!("{key} is told"), || wire.ask(&key) == "$3\r\nsql\r\n");
        }
        differences.expect(
            name,
            &[("DEL h.#:1", ":1"), ("DEL s.#:1", ":1"), ("DEL k.#:x", ":1"), ("DEL e.#:1", ":1"), ("HLEN h.#:1", ":0")],
        );
    }
    assert!(differences.found.is_empty(), "{:#?}", differences.found);
}

fn patient(builder: Builder) -> Builder {
    builder.set("VERIFY__SAMPLE", "0").expect(&[warnings::WAITING_FOR_THE_STORE])
}

fn in_postgres(bare: Bare) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let config = bare.config(|name| format!("\"{name}\""));
    let builder = patient(over(&redis, &postgres, &bare.tables("TIMESTAMPTZ"), &config));
    let (is_content, told) = check(&builder);
    assert!(is_content, "{told}");
    all_are_written_and_told(bare, &builder.start(), |text| postgres.sql(text));
}

#[test]
fn a_hash_and_its_columns_may_be_called_like_anything_in_the_statements() {
    in_postgres(Bare::Hash);
}

#[test]
fn a_set_and_its_members_column_too() {
    in_postgres(Bare::Set);
}

#[test]
fn in_the_embedded_store_as_well() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    sqlite(&file, &Bare::Hash.tables("TIMESTAMP"));
    let builder = patient(Sidecar::builder().redis(&redis).config(&Bare::Hash.config(str::to_owned)));
    let builder =
        builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").set("STORE__URL", format!("sqlite://{}", file.display()));
    all_are_written_and_told(Bare::Hash, &builder.start(), |text| sqlite(&file, text));
}
